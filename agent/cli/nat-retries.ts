import { join } from 'node:path';
import { openPinnedMap } from '../kernel/map.ts';
import { FAMILIES } from '../lib/ip.ts';
import { readCounters } from '../tables/counters.ts';

export interface NatAttempts {
  /** Allocations by the number of candidates that were refused before; the last was a scan. */
  attempts: number[];
  /** Allocations that found no port. */
  failed: number;
}

/** The histogram of both families together, since their counters were created. */
export function sumAttempts(bpffs: string): NatAttempts {
  const slots: number[] = [];
  for (const family of FAMILIES) {
    using map = openPinnedMap(join(bpffs, family, 'counters'));
    if (!map) continue;
    for (const [k, n] of readCounters(map).natAttempts.entries()) slots[k] = (slots[k] ?? 0) + n;
  }
  return { attempts: slots.slice(0, -1), failed: slots.at(-1) ?? 0 };
}

/** One `<attempts>: <count>` line each, failures last. */
export function attemptLines({ attempts, failed }: NatAttempts): string[] {
  return [...attempts.map((count, k) => `${k}: ${count}`), `failed: ${failed}`];
}
