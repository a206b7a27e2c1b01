import { layouts, reap_limit, type Tuple } from '../abi/generated.ts';
import type { Reaper } from '../engine/reap.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { encodeTuple } from '../tables/tuple.ts';

const BATCH = reap_limit.REAP_BATCH;

export interface Flushed {
  deleted: number;
  natDeleted: number;
}

/** Deletes entries of one table whether they have expired or not; `groups` name their keys. */
export async function flushTable(
  reaper: Reaper,
  family: Family,
  table: ConnectionTable,
  groups: AsyncIterable<readonly Tuple[]>,
): Promise<Flushed> {
  const { size } = layouts[family].tuple;
  const keys = new Uint8Array(BATCH * size);
  const total: Flushed = { deleted: 0, natDeleted: 0 };
  let count = 0;
  const reap = async () => {
    const done = await reaper.reap(table, keys, count, { force: true });
    total.deleted += done.deleted;
    total.natDeleted += done.natDeleted;
    count = 0;
  };
  for await (const group of groups) {
    for (const tuple of group) {
      keys.set(encodeTuple(family, tuple), count * size);
      if (++count === BATCH) await reap();
    }
  }
  if (count > 0) await reap();
  return total;
}

export function flushedLine(deleted: number, path: string): string {
  return `Flushed ${deleted} entries from ${path}`;
}
