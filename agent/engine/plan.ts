import { device_flag, endpoint_flag } from '../abi/generated.ts';
import { addressNumber, addressSize, type Family, formatAddress, parseAddress } from '../lib/ip.ts';
import type { DeviceRow } from '../tables/devices.ts';
import type { Endpoint, EndpointRow } from '../tables/endpoints.ts';
import type { PrefixRow } from '../tables/prefixes.ts';
import {
  defaultInterfaces,
  egressAddress,
  findInterface,
  type Interface,
  type NetworkState,
  nodeAddresses,
  notEthernet,
} from './network.ts';
import { type PrefixSources, prefixRows, tunnelPeers } from './prefixes.ts';

/** A row for an address of the node itself. */
const HOST: Endpoint = {
  ifindex: 0,
  id: 0,
  identity: 0,
  flags: endpoint_flag.ENDPOINT_HOST,
  mtu: 0,
};

/** A local endpoint, as it was asked for. */
export interface EndpointSpec {
  name: string;
  /** Host side of its link. */
  interface: string;
  /** As text. */
  addresses: string[];
  /** Its number in listings; kept for as long as the endpoint is known. */
  id: number;
}

export interface FamilyRows {
  devices: DeviceRow[];
  endpoints: EndpointRow[];
  prefixes: PrefixRow[];
  /** IPv4 addresses of the other nodes, in both families. */
  tunnelPeers: Uint8Array[];
}

/** An endpoint whose interface is there. */
export interface PlacedEndpoint {
  spec: EndpointSpec;
  link: Interface;
}

/** What the datapath is to hold and where it is to be attached. */
export interface Plan {
  devices: Interface[];
  endpoints: PlacedEndpoint[];
  rows: Record<Family, FamilyRows>;
  /** Which interface stands for a name that was asked for, by ifindex. */
  names: Map<string, number>;
  /** Why some of what was asked for is left out, or not as asked for, one sentence each. */
  problems: string[];
}

export interface PlanInput {
  network: NetworkState;
  devices: Interface[];
  /** Names of the devices that the configuration asks for; empty: it leaves the choice open. */
  wanted: readonly string[];
  /** `names` of the plan before. */
  known?: ReadonlyMap<string, number>;
  endpoints: readonly EndpointSpec[];
  prefixes: PrefixSources;
  /** Egress addresses, as text. */
  egress: readonly string[];
  ports: { min: number; max: number };
}

/**
 * Works out rows and attachments from configuration and the state of the network. An endpoint
 * without its interface is left out, and so is an address that belongs to the node.
 */
export function makePlan(input: PlanInput): Plan {
  const { network, devices } = input;
  const problems = deviceProblems(input);
  const endpoints = placeEndpoints(input, problems);
  const rowsOf = (family: Family): FamilyRows => ({
    devices: devices.map((link) => deviceRow(input, link, family)),
    endpoints: endpointRows(network, endpoints, family, problems),
    prefixes: prefixRows(family, input.prefixes),
    tunnelPeers: tunnelPeers(input.prefixes),
  });
  const [ipv4, ipv6] = [rowsOf('ipv4'), rowsOf('ipv6')];
  for (const link of devices) {
    const has = (rows: FamilyRows) =>
      rows.devices.some(({ ifindex, flags }) => ifindex === link.ifindex && flags !== 0);
    if (!has(ipv4) && !has(ipv6)) problems.push(`device ${link.name} has no usable address`);
  }
  return { devices, endpoints, rows: { ipv4, ipv6 }, names: namesOf(input), problems };
}

/**
 * The interface that has the name, or the one that had it when it was last looked for: a renamed
 * interface keeps what it is to us.
 */
export function standsFor(
  network: NetworkState,
  known: ReadonlyMap<string, number> | undefined,
  name: string,
): Interface | undefined {
  const before = known?.get(name);
  return (
    findInterface(network, name) ?? network.interfaces.find(({ ifindex }) => ifindex === before)
  );
}

function namesOf({ network, known, wanted, endpoints }: PlanInput): Map<string, number> {
  const names = [...wanted, ...endpoints.map((spec) => spec.interface)];
  const found = names.map((name) => [name, standsFor(network, known, name)?.ifindex] as const);
  return new Map(found.filter((pair): pair is [string, number] => pair[1] !== undefined));
}

function deviceProblems({ network, known, devices, wanted }: PlanInput): string[] {
  const problems = wanted.flatMap((name) => {
    const link = standsFor(network, known, name);
    if (!link) return [`device ${name} is not there`];
    const reason = notEthernet(link);
    if (reason) return [`device ${name} ${reason}`];
    return isCalled(link, name) ? [] : [`device ${name} is called ${link.name} now`];
  });
  if (wanted.length === 0) {
    for (const link of defaultInterfaces(network)) {
      const reason = notEthernet(link);
      if (reason) problems.push(`device ${link.name} of a default route ${reason}`);
    }
  }
  if (devices.length > 0) return problems;
  return [...problems, 'without a north-south device nothing is masqueraded'];
}

function isCalled({ name, altNames }: Interface, wanted: string): boolean {
  return name === wanted || altNames.includes(wanted);
}

function placeEndpoints(input: PlanInput, problems: string[]): PlacedEndpoint[] {
  return input.endpoints.flatMap((spec) => {
    const link = standsFor(input.network, input.known, spec.interface);
    const reason = link ? unfit(link, input.devices) : 'is not there';
    const about = `endpoint ${spec.name}: interface ${spec.interface}`;
    if (!link || reason) {
      problems.push(`${about} ${reason}`);
      return [];
    }
    if (!isCalled(link, spec.interface)) problems.push(`${about} is called ${link.name} now`);
    return [{ spec, link }];
  });
}

/** Why an interface cannot be an endpoint's, or undefined: ends the sentence "interface x …". */
export function unfit(link: Interface, devices: readonly Interface[]): string | undefined {
  if (link.loopback) return 'is the loopback interface';
  const isDevice = devices.some((device) => device.ifindex === link.ifindex);
  return isDevice ? 'is a north-south device' : notEthernet(link);
}

function endpointRows(
  network: NetworkState,
  endpoints: readonly PlacedEndpoint[],
  family: Family,
  problems: string[],
): EndpointRow[] {
  const host = nodeAddresses(network, family).map((addr) => ({ addr, endpoint: HOST }));
  const taken = new Set(host.map((row) => formatAddress(row.addr)));
  const pods = endpoints.flatMap(({ spec, link }) =>
    ofFamily(spec.addresses, family).flatMap((addr) => {
      if (taken.has(formatAddress(addr))) {
        problems.push(`endpoint ${spec.name}: ${formatAddress(addr)} belongs to the node`);
        return [];
      }
      const { ifindex, mtu, hasPeer } = link;
      const flags = hasPeer ? endpoint_flag.ENDPOINT_PEER : 0;
      return [{ addr, endpoint: { ifindex, id: spec.id, identity: spec.id, flags, mtu } }];
    }),
  );
  return [...host, ...pods];
}

function deviceRow(
  { network, egress, ports }: PlanInput,
  link: Interface,
  family: Family,
): DeviceRow {
  const address = egressAddress(network, link.ifindex, family, egress);
  return {
    ifindex: link.ifindex,
    addr: address ?? new Uint8Array(addressSize(family)),
    port_min: ports.min,
    port_max: ports.max,
    flags: address ? device_flag.DEVICE_HAS_ADDRESS : 0,
    tunnel_addr: tunnelAddress(network, link),
  };
}

/** The other nodes know this one by it: the device's own, whatever pods leave as. */
function tunnelAddress(network: NetworkState, { ifindex }: Interface): number {
  const address = egressAddress(network, ifindex, 'ipv4', []);
  return address ? addressNumber(address) : 0;
}

function ofFamily(addresses: readonly string[], family: Family): Uint8Array[] {
  return addresses
    .map(parseAddress)
    .filter((address) => address.family === family)
    .map((address) => address.bytes);
}
