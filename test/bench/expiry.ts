import { connectionTable } from '../../agent/daemon/tables.ts';
import { collectTable } from '../../agent/engine/pass.ts';
import { loadReaper } from '../../agent/engine/reap.ts';
import type { BpfMap } from '../../agent/kernel/map.ts';
import type { Pinned } from '../cli/pinned.ts';
import { fillConntrack } from '../lib/crowd.ts';
import { watchEventLoop } from '../lib/event-loop.ts';
import { alternating, pairedRatios, roundsOr, type Summary, summarise } from './statistics.ts';

const ROUNDS = roundsOr(5);
const WAYS = ['pass', 'one by one', 'batch'] as const;
export type Way = (typeof WAYS)[number];

/** One way to be rid of a table in which everything has expired. */
export interface ExpiryFigures {
  seconds: Summary;
  /** To reading batches and deleting each key by a system call of its own, in the same round. */
  ratio: Summary;
  /** Longest time that the event loop beside it stood still, of all rounds. */
  longestGapMs: number;
}

/**
 * Deletes so many expired entries of `ct_tcp`, IPv4, in turn by a collector's pass, by batch lookup
 * and one deletion per key, and by batch lookup and batch deletion. The last two do not look at an
 * entry again, nor at its NAT halves.
 */
export async function measureExpiry(
  pinned: Pinned,
  map: BpfMap,
  count: number,
): Promise<Record<Way, ExpiryFigures>> {
  using reaper = loadReaper(pinned.bpffs, 'ipv4');
  const table = connectionTable('ipv4', 'ct_tcp', map);
  const ways: Record<Way, () => Promise<unknown>> = {
    pass: () =>
      collectTable(table, {
        now: pinned.now,
        turnover: () => ({ created: 0, deleted: 0 }),
        reap: (_, name, ...keys) => reaper.reap(name, ...keys),
      }),
    async 'one by one'() {
      for await (const batch of map.lookupBatch()) {
        for (let i = 0; i < batch.count; i++) {
          map.delete(batch.keys.subarray(i * map.keySize, (i + 1) * map.keySize));
        }
      }
    },
    async batch() {
      for await (const batch of map.lookupBatch()) await map.deleteBatch(batch.keys, batch.count);
    },
  };
  const seconds: Record<Way, number[]> = { pass: [], 'one by one': [], batch: [] };
  const gaps: Record<Way, number[]> = { pass: [], 'one by one': [], batch: [] };
  for (const way of alternating(WAYS, ROUNDS)) {
    await fillConntrack(map, { family: 'ipv4', count, expires: pinned.now() - 3600 });
    const loop = watchEventLoop();
    const begun = performance.now();
    await ways[way]();
    seconds[way].push((performance.now() - begun) / 1000);
    gaps[way].push(loop.stop().longestGapMs);
    const left = await map.count();
    if (left > 0) throw new Error(`${way}: ${left} entries are left`);
  }
  const figures = (way: Way): ExpiryFigures => ({
    seconds: summarise(seconds[way]),
    ratio: summarise(pairedRatios(seconds[way], seconds['one by one'])),
    longestGapMs: Math.max(...gaps[way]),
  });
  return { pass: figures('pass'), 'one by one': figures('one by one'), batch: figures('batch') };
}
