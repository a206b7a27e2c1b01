import type { Collector, CollectorStatus } from '../engine/collector.ts';
import type { Datapath } from '../engine/datapath.ts';
import type { Resizer } from '../engine/resizer.ts';
import type { Capabilities } from '../kernel/capabilities.ts';
import { FAMILIES } from '../lib/ip.ts';
import type { AgentControl } from './api.ts';
import type { NodeKeeper } from './node.ts';
import type { Reloader, Settings } from './reload.ts';
import type { ServiceKeeper } from './services.ts';
import type { HookStatus, MapStatus } from './status.ts';

export interface ControlParts {
  settings: Settings;
  version: string;
  startedAt: Date;
  capabilities: Capabilities;
  node: NodeKeeper;
  services: ServiceKeeper;
  collector: Collector;
  datapath: Datapath;
  resizer: Resizer;
  reloader: Reloader;
}

/** What the socket's API does with the parts of the daemon. */
export function createControl(parts: ControlParts): AgentControl {
  const { settings, version, startedAt, capabilities, node, services } = parts;
  const { collector, datapath, resizer } = parts;

  function warnings(): string[] {
    const reload = parts.reloader.last();
    const refused =
      reload?.status === 'refused' ? [`configuration not applied: ${reload.message}`] : [];
    return [...refused, ...node.warnings(), ...services.warnings()];
  }

  function health() {
    const hooks = hookStatus(node);
    const problems = [
      node.problem(),
      services.problem(),
      ...hooks.filter((hook) => !hook.attached).map(describeDetached),
    ].filter((problem) => problem !== undefined);
    return { healthy: problems.length === 0, problems };
  }

  return {
    health,
    async status() {
      const endpoints = node.endpoints();
      const ready = endpoints.filter(({ state }) => state === 'ready').length;
      const gc = collector.status();
      return {
        version,
        pid: process.pid,
        node: settings.config.node.name,
        startedAt: startedAt.toISOString(),
        reload: parts.reloader.last() ?? null,
        ...health(),
        warnings: warnings(),
        devices: node.devices().map(({ name }) => name),
        endpoints: { ready, total: endpoints.length },
        services: services.totals(),
        hooks: hookStatus(node),
        maps: mapStatus(datapath, gc),
        gc,
        capabilities,
      };
    },
    listEndpoints: () => node.endpoints(),
    addEndpoint: (request) => node.addEndpoint(request),
    deleteEndpoint: (name) => node.deleteEndpoint(name),
    listServices: () => services.views(),
    invalidServices: () => services.invalid(),
    getService: (name) => services.get(name),
    applyServices: (items) => services.apply(items),
    deleteService: (name) => services.remove(name),
    collect: () => collector.run('request'),
    resize: ({ table, family, entries }) =>
      resizer.resize({
        ...{ table, entries, reason: 'request' },
        families: family ? [family] : FAMILIES,
      }),
  };
}

function hookStatus(node: NodeKeeper): HookStatus[] {
  const names = new Map<number, string>();
  for (const { ifindex, name } of node.devices()) names.set(ifindex, name);
  for (const { ifindex, interface: name } of node.endpoints()) names.set(ifindex, name);
  return node.hooks().map((hook) => ({
    ...hook,
    interface: names.get(hook.ifindex) ?? `${hook.ifindex}`,
  }));
}

function describeDetached({ interface: name, hook, family }: HookStatus): string {
  return `${hook} of ${family} is not attached to ${name}`;
}

function mapStatus(datapath: Datapath, gc: CollectorStatus): MapStatus[] {
  return FAMILIES.flatMap((family) =>
    datapath.mapNames(family).map((name) => {
      const map = datapath.map(family, name);
      const pass = gc.passes.find((done) => done.family === family && done.table === name);
      return {
        family,
        name,
        type: map.type,
        capacity: map.maxEntries,
        ...(pass && { entries: pass.alive }),
        memory: map.memory(),
      };
    }),
  );
}
