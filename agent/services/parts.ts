import type { Family, Prefix } from '../lib/ip.ts';
import type { NodeFacts } from './facts.ts';
import { type Place, PROTOCOLS, type PreparedService, placeAt } from './prepare.ts';
import type { Protocol, TrafficPolicy } from './spec.ts';

/** What one frontend of a part is. */
export interface PartFrontend extends Place {
  kind: 'service' | 'nodePort';
  /** Whether the network may use it. */
  external: boolean;
  /** Names it among the frontends of all services. */
  key: string;
}

/**
 * What has one id in the datapath: a service, as far as it is of one family and one protocol.
 * Backends are named by their place in the service's list.
 */
export interface Part {
  /** Names it among the parts of all services, over changes of the service. */
  key: string;
  service: PreparedService;
  family: Family;
  protocol: Protocol;
  frontends: readonly PartFrontend[];
  /** Whether pods of this node have other backends than everybody else. */
  isSplit: boolean;
  /** Of each backend: whether it is an endpoint of this node. */
  local: readonly boolean[];
  /** Who may be chosen by everybody, or by the network where the part is split... */
  external: readonly number[];
  /** ...and then by pods of this node. */
  internal: readonly number[];
}

/** The parts of a service that has no problem. */
export function partsOf(service: PreparedService, facts: NodeFacts): Part[] {
  return service.families.flatMap((family) =>
    service.protocols.map((protocol) => partOf(service, facts, family, protocol)),
  );
}

/** Names a frontend among those of all services. */
export function frontendKey({ text }: Place, protocol: string): string {
  return `${text}/${protocol}`;
}

function partOf(
  service: PreparedService,
  facts: NodeFacts,
  family: Family,
  protocol: Protocol,
): Part {
  const { name, externalTrafficPolicy, internalTrafficPolicy } = service.spec;
  const local = service.backends.map(({ address }) => facts.endpoints.has(address));
  const external = membersOf(service, local, externalTrafficPolicy);
  const isSplit = externalTrafficPolicy !== internalTrafficPolicy;
  return {
    key: `${name} ${family} ${protocol}`,
    ...{ service, family, protocol, local, isSplit, external },
    frontends: frontendsOf(service, facts, family, protocol),
    internal: isSplit ? membersOf(service, local, internalTrafficPolicy) : external,
  };
}

function frontendsOf(
  { spec, frontends }: PreparedService,
  facts: NodeFacts,
  family: Family,
  protocol: Protocol,
): PartFrontend[] {
  const external = spec.type === 'LoadBalancer';
  const own = frontends
    .filter((frontend) => frontend.protocol === protocol)
    .map((place) => ({
      ...place,
      ...{ kind: 'service' as const, external, key: frontendKey(place, protocol) },
    }));
  const port = spec.nodePort;
  if (port === undefined) return own;
  const nodePorts = facts.nodePorts[family].map((bytes) => {
    const place = placeAt(bytes, port);
    const key = frontendKey(place, protocol);
    return { ...place, kind: 'nodePort' as const, external: true, key };
  });
  return [...own, ...nodePorts];
}

/** Active ones; where there is none, those that are terminating. Weight 0 takes nothing new. */
function membersOf(
  { backends }: PreparedService,
  local: readonly boolean[],
  policy: TrafficPolicy,
): number[] {
  const fit = (state: string) =>
    backends.flatMap((backend, i) => {
      const may = backend.state === state && backend.weight > 0;
      return may && (policy === 'Cluster' || local[i]) ? [i] : [];
    });
  const active = fit('active');
  return active.length > 0 ? active : fit('terminating');
}

/** Clients that the part lets in from outside; empty: all. */
export function rangesOf({ service, family, frontends }: Part): readonly Prefix[] {
  const isLimited = service.ranges.length > 0 && frontends.some(({ external }) => external);
  return isLimited ? service.ranges.filter((range) => range.family === family) : [];
}

/** Number of the part's protocol. */
export function protocolOf({ protocol }: Part): number {
  return PROTOCOLS[protocol];
}
