import type { CollectedTable } from './pass.ts';
import { FILL } from './relief.ts';
import type { ReliefResult, ReliefTools } from './relieve.ts';

/** So many times the duration of the relief is let pass. */
const TIMES = 10;
const LEAST_MS = 1000;
/** Of its capacity: when as much is new in a table, there may be somebody again who may go. */
const NEW = 1 / 8;

/**
 * Which tables are left alone for a while: those that hold too much of what must stay, where another
 * relief would count all of it again for nothing.
 */
export interface Rests {
  isResting(table: CollectedTable): boolean;
  /** Did those that must stay take too much of it when it was last relieved? */
  isOverfull(table: CollectedTable): boolean;
  /** A table was relieved, in which `created` entries had been made when that began. */
  relieved(result: ReliefResult, created: number): void;
}

/** `clock` in milliseconds. */
export function createRests(
  { turnover }: Pick<ReliefTools, 'turnover'>,
  clock: () => number,
): Rests {
  const rests = new Map<string, { until: number; created: number }>();
  const overfull = new Set<string>();
  return {
    isResting({ family, table }) {
      const rest = rests.get(`${family}/${table}`);
      if (!rest) return false;
      return clock() < rest.until && turnover(family, table).created < rest.created;
    },
    isOverfull: ({ family, table }) => overfull.has(`${family}/${table}`),
    relieved(result, created) {
      const { family, table, capacity, before, deleted, durationMs } = result;
      const left = Object.values(deleted).reduce((rest, count) => rest - count, before);
      const path = `${family}/${table}`;
      if (result.overfull) overfull.add(path);
      else overfull.delete(path);
      if (left <= FILL.low * capacity) rests.delete(path);
      else {
        const until = clock() + Math.max(LEAST_MS, TIMES * durationMs);
        rests.set(path, { until, created: created + NEW * capacity });
      }
    },
  };
}
