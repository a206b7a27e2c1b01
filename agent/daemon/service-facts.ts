import type { Config } from '../config/schema.ts';
import { hasAddress, type NetworkState, nodeAddresses } from '../engine/network.ts';
import type { Plan } from '../engine/plan.ts';
import { FAMILIES, type Family, formatAddress, parseAddress } from '../lib/ip.ts';
import { configFacts } from '../services/config-facts.ts';
import type { NodeFacts } from '../services/facts.ts';

/** What services need to know of the node, as a plan has it. */
export function serviceFacts(
  config: Pick<Config, 'node' | 'cluster' | 'endpoints'>,
  plan: Plan,
  network: NetworkState,
): NodeFacts {
  const onDevices = deviceAddresses(plan, network);
  const named = config.node.nodePortAddresses.map((text) => parseAddress(text));
  const chosen = named.length > 0 ? named.map(({ bytes }) => bytes) : onDevices.filter(isReachable);
  const strange = chosen.filter((bytes) => !hasAddress(network, bytes)).map(formatAddress);
  const own = FAMILIES.flatMap((family) => nodeAddresses(network, family)).map(formatAddress);
  const ofFamily = (family: Family) =>
    nodeAddresses(network, family).filter((bytes) => includes(chosen, bytes));
  const known = configFacts(config);
  return {
    ...known,
    nodePorts: { ipv4: ofFamily('ipv4'), ipv6: ofFamily('ipv6') },
    own: new Set(own),
    nodes: new Map([
      ...onDevices.map((bytes): [string, string] => [formatAddress(bytes), 'this node']),
      ...known.nodes,
    ]),
    endpoints: new Map(
      plan.endpoints.flatMap(({ spec: { name, addresses } }) =>
        addresses.map((text): [string, string] => [canonical(text), name]),
      ),
    ),
    problems: strange.map((text) => {
      return `node.nodePortAddresses: ${text} is not an address of this node`;
    }),
  };
}

function deviceAddresses(plan: Plan, { addresses }: NetworkState): Uint8Array[] {
  const devices = new Set(plan.devices.map(({ ifindex }) => ifindex));
  return addresses.filter(({ ifindex }) => devices.has(ifindex)).map(({ bytes }) => bytes);
}

/** Nobody routes to a link-local address: fe80::/10. */
function isReachable(bytes: Uint8Array): boolean {
  return bytes.length === 4 || bytes[0] !== 0xfe || ((bytes[1] ?? 0) & 0xc0) !== 0x80;
}

function includes(list: readonly Uint8Array[], bytes: Uint8Array): boolean {
  return list.some((other) => formatAddress(other) === formatAddress(bytes));
}

function canonical(text: string): string {
  return formatAddress(parseAddress(text).bytes);
}
