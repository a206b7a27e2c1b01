import type { Config } from '../config/schema.ts';
import { listAttachments, type Programs } from '../engine/attach.ts';
import {
  defaultInterfaces,
  type Interface,
  type NetworkState,
  notEthernet,
} from '../engine/network.ts';
import { makePlan, type Plan, standsFor } from '../engine/plan.ts';
import type { EndpointStore } from './endpoint-store.ts';

/** What was made of the network last. */
export interface Applied {
  plan: Plan;
  programs: Programs;
  /** As configured. */
  devices: readonly string[];
}

export interface PlanSources {
  config: Config;
  store: EndpointStore;
  bpffs: string;
  state: NetworkState;
  /** Interfaces that stood for a name when the daemon ran last, by ifindex. */
  known: ReadonlyMap<string, number> | undefined;
  before: Applied | undefined;
}

/** What configuration, endpoints and network lead to, as far as what was applied before counts. */
export function planFor({ config, store, bpffs, state, known, before }: PlanSources): Plan {
  const { node, masquerade, cluster } = config;
  const names = before?.plan.names ?? known;
  return makePlan({
    network: state,
    devices: currentDevices(state, node.devices, bpffs, before),
    wanted: node.devices,
    ...(names && { known: names }),
    endpoints: store.list(),
    prefixes: { exclude: masquerade.exclude, podCIDRs: node.podCIDRs, nodes: cluster.nodes },
    egress: masquerade.addresses,
    ports: masquerade.ports,
  });
}

/**
 * Configured devices that are there, as far as they are Ethernet. Without any configured, those
 * of the default routes, and those that have the hooks already: a default route that is away for
 * a moment must not let packets out untranslated. Nor must a name: while the configuration is the
 * same, what was a device is one.
 */
function currentDevices(
  network: NetworkState,
  configured: readonly string[],
  bpffs: string,
  before: Applied | undefined,
): Interface[] {
  const kept =
    before?.devices.join() === configured.join()
      ? before.plan.devices.map(({ ifindex }) => ifindex)
      : [];
  const named = configured.map((name) => standsFor(network, before?.plan.names, name)?.ifindex);
  const chosen = new Set([...named, ...kept]);
  if (configured.length === 0) {
    for (const { ifindex } of defaultInterfaces(network)) chosen.add(ifindex);
    for (const { ifindex, hook } of listAttachments(bpffs)) {
      if (hook === 'to_netdev') chosen.add(ifindex);
    }
  }
  return network.interfaces.filter((link) => chosen.has(link.ifindex) && !notEthernet(link));
}
