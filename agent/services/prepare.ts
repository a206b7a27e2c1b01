import {
  FAMILIES,
  type Family,
  familyOf,
  formatAddress,
  formatEndpoint,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../lib/ip.ts';
import { type BackendHash, hashBackend, TABLE_SIZE } from './maglev.ts';
import type { BackendState, Protocol, ServiceSpec } from './spec.ts';

export const PROTOCOLS: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

/** The name of a protocol that a service can have; its number in text for any other. */
export function protocolName(number: number): string {
  const known = Object.entries(PROTOCOLS).find(([, value]) => value === number);
  return known?.[0] ?? `${number}`;
}

/** An address and a port, and how messages name them. */
export interface Place {
  family: Family;
  bytes: Uint8Array;
  /** The address alone. */
  address: string;
  port: number;
  /** `10.0.1.10:8000`. */
  text: string;
}

export interface PreparedFrontend extends Place {
  protocol: Protocol;
}

export interface PreparedBackend extends Place {
  weight: number;
  state: BackendState;
}

/** A service with its addresses read, and what is wrong with it by itself. */
export interface PreparedService {
  spec: ServiceSpec;
  frontends: readonly PreparedFrontend[];
  backends: readonly PreparedBackend[];
  ranges: readonly Prefix[];
  /** Of its addresses; both where it has none. */
  families: readonly Family[];
  /** Of its frontends. */
  protocols: readonly Protocol[];
  problem: string | undefined;
}

/** Reads a valid spec. What it says of a service does not depend on the node or on other services. */
export function prepareService(spec: ServiceSpec): PreparedService {
  const frontends = spec.frontends.map((frontend) => {
    return {
      ...placeAt(parseAddress(frontend.address).bytes, frontend.port),
      protocol: frontend.protocol,
    };
  });
  const backends = spec.backends.map(({ address, port, weight, state }) => {
    return { ...placeAt(parseAddress(address).bytes, port), weight, state };
  });
  const first = frontends[0] ?? backends[0];
  const protocols = new Set(frontends.map(({ protocol }) => protocol));
  return {
    ...{ spec, frontends, backends },
    ranges: spec.sourceRanges.map(parsePrefix),
    families: first ? [first.family] : FAMILIES,
    protocols: protocols.size > 0 ? [...protocols] : ['TCP'],
    problem: problemOf(spec, frontends, backends),
  };
}

/** The hashes of a backend by which every node finds its slots. */
export function hashOf({ bytes, port }: Place, protocol: Protocol): BackendHash {
  return hashBackend(bytes, port, PROTOCOLS[protocol]);
}

/** An address (4 or 16 bytes) and a port. */
export function placeAt(bytes: Uint8Array, port: number): Place {
  const family = familyOf(bytes);
  return { family, bytes, address: formatAddress(bytes), port, text: formatEndpoint(bytes, port) };
}

function problemOf(
  { type, nodePort }: ServiceSpec,
  frontends: readonly PreparedFrontend[],
  backends: readonly PreparedBackend[],
): string | undefined {
  if (type === 'ClusterIP' && nodePort !== undefined) return 'a ClusterIP service has no node port';
  if (type === 'NodePort' && nodePort === undefined) return 'a NodePort service needs a nodePort';
  if (frontends.length === 0 && nodePort === undefined) return 'it has no frontend';
  const [first] = [...frontends, ...backends];
  const stranger = [...frontends, ...backends].find(({ family }) => family !== first?.family);
  if (stranger) return `${stranger.text} and ${first?.text} are of different families`;
  const unbalanced = frontends.find(({ protocol }) => protocol === 'SCTP');
  if (unbalanced) return `frontend ${unbalanced.text}/SCTP: only TCP and UDP are balanced`;
  if (backends.length > TABLE_SIZE)
    return `${backends.length} backends are more than ${TABLE_SIZE}`;
  const twice =
    repeated(frontends.map(({ text, protocol }) => `frontend ${text}/${protocol}`)) ??
    repeated(backends.map(({ text }) => `backend ${text}`));
  return twice && `${twice} stands twice`;
}

function repeated(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}
