import type { Tuple } from '../abi/generated.ts';
import type { ReapTable } from '../engine/reap.ts';
import { loadReaper } from '../engine/reap.ts';
import type { Family } from '../lib/ip.ts';
import { encodeTuple } from '../tables/tuple.ts';

const BATCH = 4096;

export interface Flushed {
  deleted: number;
  natDeleted: number;
}

/** Deletes entries of one table whether they have expired or not; `groups` name their keys. */
export async function flushTable(
  bpffs: string,
  family: Family,
  table: ReapTable,
  groups: AsyncIterable<readonly Tuple[]>,
): Promise<Flushed> {
  using reaper = loadReaper(bpffs, family);
  const total: Flushed = { deleted: 0, natDeleted: 0 };
  const keys = new Uint8Array(BATCH * tupleSize(family));
  let count = 0;
  const reap = async () => {
    const done = await reaper.reap(table, keys, count, { force: true });
    total.deleted += done.deleted;
    total.natDeleted += done.natDeleted;
    count = 0;
  };
  for await (const group of groups) {
    for (const tuple of group) {
      keys.set(encodeTuple(family, tuple), count * tupleSize(family));
      if (++count === BATCH) await reap();
    }
  }
  if (count > 0) await reap();
  return total;
}

export function flushedLine(deleted: number, path: string): string {
  return `Flushed ${deleted} entries from ${path}`;
}

function tupleSize(family: Family): 16 | 40 {
  return family === 'ipv4' ? 16 : 40;
}
