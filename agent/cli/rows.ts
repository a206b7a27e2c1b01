import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { CtEntry, NatEntry } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { datapathNow, findNodeState } from '../tables/clock.ts';
import type { Connection } from '../tables/connections.ts';
import { listConntrack } from '../tables/conntrack.ts';
import { listNat } from '../tables/snat.ts';
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

/** Matching entries of all connection tables, streamed. */
export async function* conntrackRows(
  bpffs: string,
  filter: Filter,
): AsyncGenerator<Connection<CtEntry>> {
  for (const family of pinnedFamilies(bpffs, filter)) {
    for (const table of conntrackTables(filter)) {
      yield* matching(listConntrack(bpffs, family, table), filter);
    }
  }
}

/** Matching NAT entries of the given families, streamed. */
export async function* natRows(
  bpffs: string,
  filter: Filter,
): AsyncGenerator<Connection<NatEntry>> {
  for (const family of pinnedFamilies(bpffs, filter)) {
    yield* matching(listNat(bpffs, family), filter);
  }
}

/** The rows that a filter lets through. */
export async function* matching<Entry>(
  rows: AsyncIterable<Connection<Entry>>,
  filter: Filter,
): AsyncGenerator<Connection<Entry>> {
  for await (const row of rows) if (filter.matches(row.tuple)) yield row;
}

export async function* mapped<From, To>(
  items: AsyncIterable<From>,
  change: (item: From) => To,
): AsyncGenerator<To> {
  for await (const item of items) yield change(item);
}

/** Seconds of the datapath's clock; undefined when the node's state is not pinned. */
export function clockOf(bpffs: string): number | undefined {
  const state = findNodeState(bpffs);
  return state && datapathNow(state);
}
