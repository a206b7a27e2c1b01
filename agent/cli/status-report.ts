import type { Status } from '../daemon/status.ts';
import type { AttachMode, Attachment, Hook } from '../engine/attach.ts';
import { DEVICE_HOOKS, ENDPOINT_HOOKS } from '../engine/attach.ts';
import type { Capabilities } from '../kernel/capabilities.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Drops } from './drops.ts';
import type { MapStats } from './map-stats.ts';
import type { ServiceSummary } from './service-summary.ts';

/** What the pins and the daemon say, before anyone judged it. */
export interface Findings {
  /** Undefined while no daemon runs. */
  daemon: Status | undefined;
  attachments: readonly Attachment[];
  /** Interfaces that carry device hooks, and those that carry endpoint hooks, by ifindex. */
  devices: readonly number[];
  endpoints: readonly number[];
  /** Names of interfaces by ifindex. */
  names: ReadonlyMap<number, string>;
  maps: readonly MapStats[];
  drops: readonly Drops[];
  /** Of the pins, and of the daemon where it answers. */
  services: ServiceSummary | null;
  capabilities: Capabilities | undefined;
}

export interface ReportedHook {
  /** Null once the interface is gone. */
  interface: string | null;
  ifindex: number;
  hook: Hook;
  family: Family;
  attached: boolean;
  /** How; null where nothing is. */
  attach: AttachMode | null;
}

type AgentReport = Pick<
  Status,
  'version' | 'pid' | 'node' | 'startedAt' | 'reload' | 'devices' | 'endpoints'
>;

/** The document of `sekisho status -o json` (docs/json.md). */
export interface StatusReport {
  healthy: boolean;
  /** Why not, one sentence each. */
  problems: string[];
  warnings: string[];
  agent: AgentReport | null;
  hooks: ReportedHook[];
  gc: Status['gc'] | null;
  maps: MapStats[];
  /** Of all hooks, since the maps were made. */
  drops: Drops[];
  services: ServiceSummary | null;
  capabilities: Capabilities | null;
}

/**
 * Puts findings together and judges them: no daemon, or a hook that is missing, is unhealthy. What
 * was refused is a warning: the rest works.
 */
export function reportStatus(findings: Findings): StatusReport {
  const { daemon, maps, drops, services, capabilities } = findings;
  const hooks = reportHooks(findings);
  const missing = hooks
    .filter(({ attached }) => !attached)
    .map((hook) => `${hook.hook} of ${hook.family} is not attached to ${nameOf(hook)}`);
  const problems = daemon ? [...daemon.problems] : ['the agent is not running'];
  for (const problem of missing) if (!problems.includes(problem)) problems.push(problem);
  return {
    healthy: problems.length === 0 && daemon?.healthy === true,
    problems,
    warnings: daemon?.warnings ?? [],
    agent: daemon ? describeAgent(daemon) : null,
    hooks,
    gc: daemon?.gc ?? null,
    maps: [...maps],
    drops: [...drops],
    services,
    capabilities: daemon?.capabilities ?? capabilities ?? null,
  };
}

function describeAgent({
  version,
  pid,
  node,
  startedAt,
  reload,
  devices,
  endpoints,
}: Status): AgentReport {
  return { version, pid, node, startedAt, reload, devices, endpoints };
}

/** Expected hooks and those that are there, each once. */
function reportHooks({ attachments, devices, endpoints, names }: Findings): ReportedHook[] {
  const hooks = new Map<string, ReportedHook>();
  const put = (found: Omit<ReportedHook, 'interface'>) => {
    const { ifindex, hook, family } = found;
    hooks.set(`${ifindex} ${hook} ${family}`, { interface: names.get(ifindex) ?? null, ...found });
  };
  for (const [interfaces, wanted] of [
    [devices, DEVICE_HOOKS],
    [endpoints, ENDPOINT_HOOKS],
  ] as const) {
    for (const ifindex of interfaces) {
      for (const hook of wanted) {
        for (const family of FAMILIES)
          put({ ifindex, hook, family, attached: false, attach: null });
      }
    }
  }
  for (const { ifindex, hook, family, attached, attach } of attachments) {
    put({ ifindex, hook, family, attached, attach: attached ? attach : null });
  }
  return [...hooks.values()].sort((a, b) => a.ifindex - b.ifindex);
}

function nameOf({ interface: name, ifindex }: ReportedHook): string {
  return name ?? `interface ${ifindex}`;
}
