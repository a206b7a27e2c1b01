import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { CtEntry, NatEntry, Tuple } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { datapathNow, findNodeState } from '../tables/clock.ts';
import type { Connection } from '../tables/connections.ts';
import { listConntrack } from '../tables/conntrack.ts';
import { listNat } from '../tables/snat.ts';
import type { Filter } from './filter.ts';

export type CtTable = 'ct_tcp' | 'ct_any';

/** What is done with a row; a promise holds the walk up until it is settled. */
export type Visit<Entry> = (tuple: Tuple, entry: Entry) => Promise<void> | undefined;

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
      await visitMatching(listConntrack(bpffs, family, table), filter, visit);
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
    await visitMatching(listNat(bpffs, family), filter, visit);
  }
}

/** A plain loop: another generator around the rows would cost as much as formatting them. */
export async function visitMatching<Entry>(
  rows: AsyncIterable<Connection<Entry>>,
  filter: Filter,
  visit: Visit<Entry>,
): Promise<void> {
  for await (const { tuple, entry } of rows) {
    if (!filter.matches(tuple)) continue;
    const wait = visit(tuple, entry);
    if (wait) await wait;
  }
}

/** Seconds of the datapath's clock; undefined when the node's state is not pinned. */
export function clockOf(bpffs: string): number | undefined {
  const state = findNodeState(bpffs);
  return state && datapathNow(state);
}
