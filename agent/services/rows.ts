import { backend_mask, backend_state, service_flag, service_scope } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import type { BackendRow } from '../tables/backends.ts';
import type { RevNatRow } from '../tables/rev-nat.ts';
import type { ServiceRow } from '../tables/services.ts';
import type { SourceRangeRow } from '../tables/source-ranges.ts';
import type { ServiceAddress } from './compile.ts';
import type { PartIds } from './ids.ts';
import { type Member, packMembers, tableDigest } from './maglev.ts';
import { type Part, type PartFrontend, protocolOf, rangesOf } from './parts.ts';
import { hashOf } from './prepare.ts';
import type { BackendState } from './spec.ts';

const STATES: Readonly<Record<BackendState, number>> = {
  active: backend_state.BACKEND_ACTIVE,
  terminating: backend_state.BACKEND_TERMINATING,
  quarantined: backend_state.BACKEND_QUARANTINED,
  maintenance: backend_state.BACKEND_MAINTENANCE,
};

/** A table of backends, by what is in it. */
export interface TableRow {
  serviceId: number;
  /** enum service_scope */
  scope: number;
  /** Of what is in it; undefined where that is not known. */
  digest: string | undefined;
  /** Members to build it from; none of a table that was found. */
  packed?: Uint32Array;
}

/** Everything under one service id in the maps of a family. */
export interface PartRows {
  family: Family;
  serviceId: number;
  services: readonly ServiceRow[];
  backends: readonly BackendRow[];
  revNat: readonly RevNatRow[];
  ranges: readonly SourceRangeRow[];
  tables: readonly TableRow[];
}

/** Names rows among those of all parts. */
export function rowsKey({ family, serviceId }: Pick<PartRows, 'family' | 'serviceId'>): string {
  return `${family} ${serviceId}`;
}

/** The rows of a part. */
export function partRows(part: Part, ids: PartIds): PartRows {
  const { family, frontends } = part;
  const serviceId = ids.service;
  return {
    family,
    serviceId,
    services: frontends.flatMap((frontend, i) => frontendRows(part, ids, frontend, i)),
    backends: backendRows(part, ids),
    revNat: frontends.map(({ bytes, port }, i) => {
      return { index: ids.revNat[i] ?? 0, addr: bytes, port, service_id: serviceId };
    }),
    ranges: rangesOf(part).map((prefix) => ({ serviceId, prefix })),
    tables: tablesOf(part, ids),
  };
}

/** The rows of service addresses for ports without a service. */
export function addressRows(addresses: readonly ServiceAddress[], family: Family): PartRows {
  const services = addresses
    .filter((address) => address.family === family)
    .map(({ bytes, external }): ServiceRow => {
      const { SERVICE_ANY_PORT, SERVICE_FROM_OUTSIDE } = service_flag;
      const flags = SERVICE_ANY_PORT | (external ? SERVICE_FROM_OUTSIDE : 0);
      const key = { addr: bytes, port: 0, proto: 0, scope: service_scope.SERVICE_EXTERNAL };
      return { ...key, id: 0, backends: 0, affinity_timeout: 0, rev_nat_index: 0, flags };
    });
  return { family, serviceId: 0, services, backends: [], revNat: [], ranges: [], tables: [] };
}

function frontendRows(
  part: Part,
  ids: PartIds,
  frontend: PartFrontend,
  index: number,
): ServiceRow[] {
  const { bytes: addr, port } = frontend;
  const { SERVICE_EXTERNAL, SERVICE_INTERNAL } = service_scope;
  const flags = flagsOf(part, frontend);
  const row = (scope: number, members: readonly number[], more: number): ServiceRow => ({
    ...{ addr, port, proto: protocolOf(part), scope },
    ...{ id: ids.service, backends: members.length, rev_nat_index: ids.revNat[index] ?? 0 },
    affinity_timeout: part.service.spec.sessionAffinity?.timeout ?? 0,
    flags: flags | more,
  });
  if (!part.isSplit) return [row(SERVICE_EXTERNAL, part.external, 0)];
  return [
    row(SERVICE_INTERNAL, part.internal, 0),
    row(SERVICE_EXTERNAL, part.external, service_flag.SERVICE_TWO_SCOPES),
  ];
}

function flagsOf({ service: { spec, ranges } }: Part, { external }: PartFrontend): number {
  const flags = service_flag;
  return (
    (external ? flags.SERVICE_FROM_OUTSIDE : 0) |
    (external && ranges.length > 0 ? flags.SERVICE_SOURCE_RANGES : 0) |
    (spec.sessionAffinity ? flags.SERVICE_AFFINITY : 0) |
    (spec.forwarding === 'dsr' ? flags.SERVICE_DSR : 0) |
    (spec.algorithm === 'random' ? flags.SERVICE_RANDOM : 0)
  );
}

/** An active backend that stands in no table of a scope takes no connections from there. */
function backendRows(part: Part, ids: PartIds): BackendRow[] {
  const { BACKEND_NOT_EXTERNAL, BACKEND_NOT_INTERNAL } = backend_mask;
  const [external, internal] = [new Set(part.external), new Set(part.internal)];
  const own = { proto: protocolOf(part), service_id: ids.service };
  return part.service.backends.map(({ bytes: addr, port, state }, i) => {
    const isActive = state === 'active';
    const kept =
      (isActive && !external.has(i) ? BACKEND_NOT_EXTERNAL : 0) |
      (isActive && !internal.has(i) ? BACKEND_NOT_INTERNAL : 0);
    return { id: ids.backends[i] ?? 0, addr, port, state: STATES[state] | kept, ...own };
  });
}

function tablesOf(part: Part, ids: PartIds): TableRow[] {
  const { SERVICE_EXTERNAL, SERVICE_INTERNAL } = service_scope;
  const scopes: [number, readonly number[]][] = [[SERVICE_EXTERNAL, part.external]];
  if (part.isSplit) scopes.push([SERVICE_INTERNAL, part.internal]);
  return scopes
    .filter(([, members]) => members.length > 0)
    .map(([scope, members]) => {
      const packed = packMembers(members.map((index) => memberOf(part, ids, index)));
      return { serviceId: ids.service, scope, digest: tableDigest(packed), packed };
    });
}

function memberOf({ service, protocol }: Part, ids: PartIds, index: number): Member {
  const backend = service.backends[index];
  if (!backend) throw new RangeError(`there is no backend ${index}`);
  const { weight } = backend;
  return { id: ids.backends[index] ?? 0, hash: hashOf(backend, protocol), weight };
}
