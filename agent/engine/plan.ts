import { device_flag, endpoint_flag } from '../abi/generated.ts';
import { addressSize, type Family, formatAddress, parseAddress } from '../lib/ip.ts';
import type { DeviceRow } from '../tables/devices.ts';
import type { Endpoint, EndpointRow } from '../tables/endpoints.ts';
import type { PrefixRow } from '../tables/prefixes.ts';
import {
  egressAddress,
  findInterface,
  type Interface,
  type NetworkState,
  nodeAddresses,
} from './network.ts';
import { type PrefixSources, prefixRows } from './prefixes.ts';

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
  /** Why some of what was asked for is left out, one sentence each. */
  problems: string[];
}

export interface PlanInput {
  network: NetworkState;
  devices: Interface[];
  /** Names of the devices that the configuration asks for; empty: it leaves the choice open. */
  wanted: readonly string[];
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
  const problems = missingDevices(input);
  const endpoints = placeEndpoints(input, problems);
  const rowsOf = (family: Family): FamilyRows => ({
    devices: devices.map((link) => deviceRow(input, link, family)),
    endpoints: endpointRows(network, endpoints, family, problems),
    prefixes: prefixRows(family, input.prefixes),
  });
  const [ipv4, ipv6] = [rowsOf('ipv4'), rowsOf('ipv6')];
  for (const link of devices) {
    const has = (rows: FamilyRows) =>
      rows.devices.some(({ ifindex, flags }) => ifindex === link.ifindex && flags !== 0);
    if (!has(ipv4) && !has(ipv6)) problems.push(`device ${link.name} has no usable address`);
  }
  return { devices, endpoints, rows: { ipv4, ipv6 }, problems };
}

function missingDevices({ network, devices, wanted }: PlanInput): string[] {
  const missing = wanted
    .filter((name) => !findInterface(network, name))
    .map((name) => `device ${name} is not there`);
  if (devices.length > 0) return missing;
  return [...missing, 'without a north-south device nothing is masqueraded'];
}

function placeEndpoints(input: PlanInput, problems: string[]): PlacedEndpoint[] {
  return input.endpoints.flatMap((spec) => {
    const link = findInterface(input.network, spec.interface);
    const reason = link ? unfit(link, input.devices) : 'is not there';
    if (link && !reason) return [{ spec, link }];
    problems.push(`endpoint ${spec.name}: interface ${spec.interface} ${reason}`);
    return [];
  });
}

/** Why an interface cannot be an endpoint's, or undefined: ends the sentence "interface x …". */
export function unfit(link: Interface, devices: readonly Interface[]): string | undefined {
  if (link.loopback) return 'is the loopback interface';
  const isDevice = devices.some((device) => device.ifindex === link.ifindex);
  return isDevice ? 'is a north-south device' : undefined;
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
  };
}

function ofFamily(addresses: readonly string[], family: Family): Uint8Array[] {
  return addresses
    .map(parseAddress)
    .filter((address) => address.family === family)
    .map((address) => address.bytes);
}
