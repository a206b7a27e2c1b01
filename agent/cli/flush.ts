import { layouts, reap_limit, type Tuple } from '../abi/generated.ts';
import type { Reaper } from '../engine/reap.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { encodeTuple } from '../tables/tuple.ts';

const BATCH = reap_limit.REAP_BATCH;

export interface Flushed {
  deleted: number;
  /** NAT entries that went with connections. */
  natDeleted: number;
}

/** Deletes entries of one table whether they have expired or not, a batch at a time. */
export interface Flusher {
  /** Takes a key, or the two of a pair. */
  add(tuple: Tuple, partner?: Tuple): Promise<void> | undefined;
  /** Deletes what is left and tells the sum. */
  end(): Promise<Flushed>;
}

export function createFlusher(reaper: Reaper, family: Family, table: ConnectionTable): Flusher {
  const { size } = layouts[family].tuple;
  const keys = new Uint8Array(BATCH * size);
  const total: Flushed = { deleted: 0, natDeleted: 0 };
  let count = 0;
  const reap = async () => {
    const pending = count;
    count = 0;
    const done = await reaper.reap(table, keys, pending, { mode: 'forced' });
    total.deleted += done.deleted;
    total.natDeleted += done.natDeleted;
  };
  return {
    add(tuple, partner) {
      keys.set(encodeTuple(family, tuple), count++ * size);
      if (partner) keys.set(encodeTuple(family, partner), count++ * size);
      return count > BATCH - 2 ? reap() : undefined;
    },
    async end() {
      if (count > 0) await reap();
      return total;
    },
  };
}

export function flushedLine(deleted: number, path: string): string {
  return `Flushed ${deleted} entries from ${path}`;
}
