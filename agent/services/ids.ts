import { FAMILIES, type Family } from '../lib/ip.ts';
import type { BackendRow } from '../tables/backends.ts';
import type { RevNatRow } from '../tables/rev-nat.ts';
import type { ServiceRow } from '../tables/services.ts';
import { createIdPool, type IdPool } from './id-pool.ts';
import { frontendKey, type Part } from './parts.ts';
import { placeAt, protocolName } from './prepare.ts';

const MAX_ID = 0xffff_ffff;
const MAX_INDEX = 0xffff;

/** Where each kind of id goes on: the number after the last one given. */
export interface NextIds {
  service: number;
  backend: number;
  /** Of `rev_nat`, in each family. */
  ipv4: number;
  ipv6: number;
}

/** The ids of a part. */
export interface PartIds {
  service: number;
  /** Of each frontend, in order. */
  revNat: readonly number[];
  /** Of each backend, in order. */
  backends: readonly number[];
}

/** What an earlier run left in the maps of a family. */
export interface FoundRows {
  services: readonly ServiceRow[];
  backends: readonly BackendRow[];
  revNat: readonly RevNatRow[];
}

export interface Assigned {
  ids: ReadonlyMap<Part, PartIds>;
  /** Those for which there is no index of `rev_nat` until others have given theirs back. */
  waiting: readonly Part[];
}

/**
 * Hands out ids. A part keeps its id as long as it is asked for, over restarts and under another
 * name by its frontends; a frontend keeps its index, a backend of a part its id. All are given out
 * in turn: services and backends never come to the end of theirs, and before an index is given out
 * again, whatever names it is deleted.
 */
export interface Ids {
  /** Of all parts that there are to be; what is not among them loses its ids. */
  assign(parts: readonly Part[]): Assigned;
  next(): NextIds;
}

interface ServiceIds {
  id: number;
  /** By the text of their place. */
  backends: Map<string, number>;
}

interface Known {
  /** By the key of the part. */
  parts: Map<string, ServiceIds>;
  /** By the key of the frontend: its index, and whose it is. */
  frontends: Map<string, { index: number; owner: ServiceIds }>;
}

type Pools = Record<keyof NextIds, IdPool>;

/** Goes on from what is in the maps, and from where ids were given out last. */
export function createIds(found: Record<Family, FoundRows>, next: NextIds): Ids {
  let known = readKnown(found);
  let assigned: ReadonlyMap<Part, PartIds> = new Map();
  const pools = createPools(found, next);

  function assign(wanted: readonly Part[]): Assigned {
    const ids = new Map<Part, PartIds>();
    const waiting: Part[] = [];
    const kept: Known = { parts: new Map(), frontends: new Map() };
    const claimed = new Set(wanted.map(({ key }) => known.parts.get(key)?.id));
    for (const part of wanted) {
      const before = assigned.get(part);
      if (!before && missing(part, known) > pools[part.family].left) {
        waiting.push(part);
        continue;
      }
      const owner = known.parts.get(part.key) ?? adopt(part, known, claimed, pools);
      claimed.add(owner.id);
      const given = before ?? give(part, owner, known, pools);
      kept.parts.set(part.key, owner);
      for (const [i, { key }] of part.frontends.entries()) {
        kept.frontends.set(key, { index: given.revNat[i] ?? 0, owner });
      }
      ids.set(part, given);
    }
    known = kept;
    assigned = ids;
    retain(pools, ids);
    return { ids, waiting };
  }

  return {
    assign,
    next: () => ({
      service: pools.service.next,
      backend: pools.backend.next,
      ipv4: pools.ipv4.next,
      ipv6: pools.ipv6.next,
    }),
  };
}

/** How many of its frontends have no index yet. */
function missing(part: Part, { frontends }: Known): number {
  return part.frontends.filter(({ key }) => !frontends.has(key)).length;
}

/** The ids of a part that is new under its name: those of the one that had its frontends. */
function adopt(
  part: Part,
  { frontends }: Known,
  claimed: ReadonlySet<number | undefined>,
  pools: Pools,
): ServiceIds {
  for (const { key } of part.frontends) {
    const owner = frontends.get(key)?.owner;
    if (owner && !claimed.has(owner.id)) return owner;
  }
  return { id: pools.service.take(), backends: new Map() };
}

function give(part: Part, owner: ServiceIds, { frontends }: Known, pools: Pools): PartIds {
  const revNat = part.frontends.map(({ key }) => {
    return frontends.get(key)?.index ?? pools[part.family].take();
  });
  const places = part.service.backends.map(({ text }): [string, number] => [
    text,
    owner.backends.get(text) ?? pools.backend.take(),
  ]);
  owner.backends = new Map(places);
  return { service: owner.id, revNat, backends: places.map(([, id]) => id) };
}

/** All but what is given now comes back. */
function retain(pools: Pools, ids: ReadonlyMap<Part, PartIds>): void {
  const used = { service: new Set<number>(), backend: new Set<number>() };
  const indexes = { ipv4: new Set<number>(), ipv6: new Set<number>() };
  for (const [{ family }, { service, revNat, backends }] of ids) {
    used.service.add(service);
    for (const id of backends) used.backend.add(id);
    for (const index of revNat) indexes[family].add(index);
  }
  pools.service.retain(used.service);
  pools.backend.retain(used.backend);
  for (const family of FAMILIES) pools[family].retain(indexes[family]);
}

function createPools(found: Record<Family, FoundRows>, next: NextIds): Pools {
  const rows = FAMILIES.map((family) => found[family]);
  const services = rows.flatMap(({ services, backends }) => [
    ...services.map(({ id }) => id),
    ...backends.map(({ service_id }) => service_id),
  ]);
  const backends = rows.flatMap(({ backends }) => backends.map(({ id }) => id));
  const indexes = (family: Family) => found[family].revNat.map(({ index }) => index);
  return {
    service: poolOf(MAX_ID, services, next.service),
    backend: poolOf(MAX_ID, backends, next.backend),
    ipv4: poolOf(MAX_INDEX, indexes('ipv4'), next.ipv4),
    ipv6: poolOf(MAX_INDEX, indexes('ipv6'), next.ipv6),
  };
}

/** Without a record of where it was, a round goes on after the largest number that is in use. */
function poolOf(limit: number, used: readonly number[], next: number): IdPool {
  const largest = used.reduce((most, id) => Math.max(most, id), 0);
  return createIdPool(limit, new Set(used), next || largest + 1);
}

/** Whose frontends they were is in the maps; what it was called is not. */
function readKnown(found: Record<Family, FoundRows>): Known {
  const owners = new Map<number, ServiceIds>();
  const ownerOf = (id: number) => {
    const owner = owners.get(id) ?? { id, backends: new Map() };
    owners.set(id, owner);
    return owner;
  };
  const frontends: Known['frontends'] = new Map();
  for (const family of FAMILIES) {
    for (const { id, addr, port, service_id } of found[family].backends) {
      ownerOf(service_id).backends.set(placeAt(addr, port).text, id);
    }
    for (const { addr, port, proto, id, rev_nat_index: index } of found[family].services) {
      if (id === 0 || index === 0) continue;
      const key = frontendKey(placeAt(addr, port), protocolName(proto));
      frontends.set(key, { index, owner: ownerOf(id) });
    }
  }
  return { parts: new Map(), frontends };
}
