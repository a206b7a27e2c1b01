import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { CtEntry, NatEntry } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { datapathNow, findNodeState } from '../tables/clock.ts';
import type { Visit } from '../tables/connections.ts';
import { walkConntrack } from '../tables/conntrack.ts';
import { walkNat } from '../tables/snat.ts';
import type { Filter } from './filter.ts';

export type CtTable = 'ct_tcp' | 'ct_any';

const TCP = 6;

/** Tables of connections that can hold a match. */
export function conntrackTables({ proto }: Filter): readonly CtTable[] {
  if (proto === undefined) return ['ct_tcp', 'ct_any'];
  return proto === TCP ? ['ct_tcp'] : ['ct_any'];
}

/** Families that can hold a match and are pinned. */
export function pinnedFamilies(bpffs: string, { families }: Filter): readonly Family[] {
  return families.filter((family) => existsSync(join(bpffs, family, 'ct_tcp')));
}

/** Visits matching entries of all connection tables, one at a time as they are read. */
export async function visitConntrack(
  bpffs: string,
  filter: Filter,
  visit: Visit<CtEntry>,
): Promise<void> {
  for (const family of pinnedFamilies(bpffs, filter)) {
    for (const table of conntrackTables(filter)) {
      await walkConntrack(bpffs, family, table, matching(filter, visit));
    }
  }
}

/** Visits matching NAT entries of both families. */
export async function visitNat(
  bpffs: string,
  filter: Filter,
  visit: Visit<NatEntry>,
): Promise<void> {
  for (const family of pinnedFamilies(bpffs, filter)) {
    await walkNat(bpffs, family, matching(filter, visit));
  }
}

/** Lets a visit see only what matches. */
export function matching<Entry>({ matches }: Filter, visit: Visit<Entry>): Visit<Entry> {
  return (tuple, entry) => (matches(tuple) ? visit(tuple, entry) : undefined);
}

/** Seconds of the datapath's clock; undefined when the node's state is not pinned. */
export function clockOf(bpffs: string): number | undefined {
  const state = findNodeState(bpffs);
  return state && datapathNow(state);
}
