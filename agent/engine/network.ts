import { ConfigError, SekishoError } from '../lib/errors.ts';
import { type Family, formatAddress, parseAddress } from '../lib/ip.ts';

/** A network interface of this namespace. */
export interface Interface {
  ifindex: number;
  name: string;
  altNames: string[];
  loopback: boolean;
  /** What its frames begin with, as `ip` calls it: `ether`, `none`, `ppp`, …. */
  linkType: string;
  /** Bytes of layer 3. */
  mtu: number;
  /** Whether its other end is in another namespace (veth, netkit). */
  hasPeer: boolean;
}

/** An address of an interface, in network order, in the order the kernel lists them. */
export interface InterfaceAddress {
  ifindex: number;
  family: Family;
  bytes: Uint8Array;
  /** Global, and neither tentative, failed, deprecated nor temporary: others may be told of it. */
  egress: boolean;
}

/** Everything the agent knows about the namespace it runs in. */
export interface NetworkState {
  interfaces: Interface[];
  addresses: InterfaceAddress[];
  /** Interfaces that a default route of either family leaves through, first found first. */
  defaultDevices: string[];
}

interface RawLink {
  ifindex: number;
  ifname: string;
  mtu?: number;
  altnames?: string[];
  flags?: string[];
  link_type?: string;
  link_netnsid?: number;
  linkinfo?: { info_kind?: string };
}

interface RawAddress {
  family?: string;
  local?: string;
  scope?: string;
  tentative?: boolean;
  dadfailed?: boolean;
  deprecated?: boolean;
  temporary?: boolean;
}

interface RawRoute {
  type?: string;
  dev?: string;
  nexthops?: { dev?: string }[];
}

const PEERED = new Set(['veth', 'netkit']);

/** Reads `ip -json -details link`. */
export function parseLinks(json: string): Interface[] {
  return parseList<RawLink>(json).map((link) => ({
    ifindex: link.ifindex,
    name: link.ifname,
    altNames: link.altnames ?? [],
    mtu: link.mtu ?? 0,
    loopback: link.flags?.includes('LOOPBACK') ?? false,
    linkType: link.link_type ?? 'unknown',
    hasPeer: PEERED.has(link.linkinfo?.info_kind ?? '') && link.link_netnsid !== undefined,
  }));
}

/** Reads `ip -json addr`. */
export function parseAddresses(json: string): InterfaceAddress[] {
  const links = parseList<{ ifindex: number; addr_info?: RawAddress[] }>(json);
  return links.flatMap(({ ifindex, addr_info = [] }) =>
    addr_info.flatMap((raw) => {
      if (raw.local === undefined || !raw.family?.startsWith('inet')) return [];
      const egress =
        raw.scope === 'global' &&
        !raw.tentative &&
        !raw.dadfailed &&
        !raw.deprecated &&
        !raw.temporary;
      return [{ ifindex, egress, ...parseAddress(raw.local) }];
    }),
  );
}

/** Reads `ip -json route show default` of each family; the result names each device once. */
export function parseDefaultDevices(...documents: string[]): string[] {
  const routes = documents.flatMap((json) => parseList<RawRoute>(json));
  const devices = routes
    .filter((route) => (route.type ?? 'unicast') === 'unicast')
    .flatMap((route) => [route.dev, ...(route.nexthops ?? []).map((hop) => hop.dev)]);
  return [...new Set(devices.filter((device) => device !== undefined))];
}

/** The interface of that name or alternative name. */
export function findInterface(state: NetworkState, name: string): Interface | undefined {
  return (
    state.interfaces.find((link) => link.name === name) ??
    state.interfaces.find((link) => link.altNames.includes(name))
  );
}

/**
 * The north-south devices: the configured ones, or those of the default routes when none is
 * configured. Throws E_NO_INTERFACE when a configured one does not exist, and ConfigError for one
 * whose frames the datapath cannot read.
 */
export function selectDevices(state: NetworkState, configured: readonly string[]): Interface[] {
  const isChosen = configured.length > 0;
  const devices = isChosen
    ? configured.map((name) => requireInterface(state, name, 'node.devices: '))
    : defaultInterfaces(state);
  const strange = devices.find((link) => notEthernet(link));
  if (!strange) return devices;
  const about = `${strange.name} ${notEthernet(strange)}`;
  throw new ConfigError(
    isChosen ? about : `${about}, and a default route leads there`,
    { path: 'node.devices' },
    {
      hint: isChosen ? 'name Ethernet interfaces' : 'name the Ethernet interfaces to masquerade on',
    },
  );
}

/** Interfaces that a default route leaves through. */
export function defaultInterfaces(state: NetworkState): Interface[] {
  return state.defaultDevices
    .map((name) => findInterface(state, name))
    .filter((link) => link !== undefined)
    .filter((link) => !link.loopback);
}

/**
 * Why the datapath cannot read what an interface carries, or undefined: ends the sentence
 * "interface x …".
 */
export function notEthernet({ linkType }: Interface): string | undefined {
  return linkType === 'ether' ? undefined : `is not Ethernet (its link type is ${linkType})`;
}

/**
 * The interface of that name. Throws E_NO_INTERFACE, naming those that are there; `place` is where
 * the name comes from.
 */
export function requireInterface(state: NetworkState, name: string, place = ''): Interface {
  const found = findInterface(state, name);
  if (found) return found;
  const names = state.interfaces.map((link) => link.name);
  const shown = names.length > 8 ? `${names.slice(0, 8).join(', ')}, …` : names.join(', ');
  throw new SekishoError('E_NO_INTERFACE', `${place}there is no network interface "${name}"`, {
    hint: `this network namespace has ${shown || 'none'}`,
  });
}

/**
 * What packets leave a device as: the first configured address of the family, or the device's
 * first usable global one; undefined when it has none.
 */
export function egressAddress(
  state: NetworkState,
  ifindex: number,
  family: Family,
  configured: readonly string[],
): Uint8Array | undefined {
  const chosen = configured.map(parseAddress).find((address) => address.family === family);
  if (chosen) return hasAddress(state, chosen.bytes) ? chosen.bytes : undefined;
  return state.addresses.find(
    (address) => address.ifindex === ifindex && address.family === family && address.egress,
  )?.bytes;
}

/** Throws ConfigError for a masquerade address that the node does not have. */
export function checkMasqueradeAddresses(state: NetworkState, configured: readonly string[]): void {
  for (const text of configured) {
    if (hasAddress(state, parseAddress(text).bytes)) continue;
    throw new ConfigError(
      `${text} is not an address of this node`,
      { path: 'masquerade.addresses' },
      { hint: 'add it to an interface, or leave masquerade.addresses empty' },
    );
  }
}

/** Every address of the node in one family, each once: 4 or 16 bytes in network order. */
export function nodeAddresses(state: NetworkState, family: Family): Uint8Array[] {
  const unique = new Map<string, Uint8Array>();
  for (const address of state.addresses) {
    if (address.family === family) unique.set(formatAddress(address.bytes), address.bytes);
  }
  return [...unique.values()];
}

/** Whether some interface of the node carries the address. */
export function hasAddress(state: NetworkState, bytes: Uint8Array): boolean {
  const text = formatAddress(bytes);
  return state.addresses.some((address) => formatAddress(address.bytes) === text);
}

function parseList<T>(json: string): T[] {
  const trimmed = json.trim();
  if (trimmed === '') return [];
  return (JSON.parse(trimmed) as T[]).filter((item) => Object.keys(item as object).length > 0);
}
