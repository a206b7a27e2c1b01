import type { BpfMap } from '../kernel/map.ts';
import { carryValues, type Run } from './table-layout.ts';
import { walk } from './walk.ts';

/** A map whose entries move to one of another layout. */
export interface Migration {
  from: BpfMap;
  to: BpfMap;
  runs: readonly Run[];
}

/**
 * Copies what `to` does not hold yet, while programs write to either map: what is there is newer.
 * Resolves with the number of entries that moved.
 */
export async function addEntries({ from, to, runs }: Migration): Promise<number> {
  if (from.type === 'array') return copyElements(from, to, runs);
  const sizes = { before: from.valueSize, after: to.valueSize };
  let moved = 0;
  for await (const { keys, values, count } of walk(from)) {
    moved += await to.insertBatch(keys, carryValues(values, count, sizes, runs), count);
  }
  return moved;
}

/** Copies everything. `to` must not be in use: what it holds is overwritten. */
export async function copyEntries({ from, to, runs }: Migration): Promise<number> {
  if (from.type === 'array') return copyElements(from, to, runs);
  const sizes = { before: from.valueSize, after: to.valueSize };
  let moved = 0;
  for await (const { keys, values, count } of walk(from)) {
    await to.updateBatch(keys, carryValues(values, count, sizes, runs), count);
    moved += count;
  }
  return moved;
}

/** Copies counters, each CPU's own. `to` must not be in use: what it counted is overwritten. */
export function copyCounters({ from, to, runs }: Migration): void {
  const step = to.valueSize;
  for (const run of runs) {
    for (let at = 0; at < run.size; at += step) {
      const values = from.lookup(indexKey((run.from + at) / step));
      if (values) to.update(indexKey((run.to + at) / step), values);
    }
  }
}

/** Elements of an array always exist: one that is all zeros has not been written. */
function copyElements(from: BpfMap, to: BpfMap, runs: readonly Run[]): number {
  const sizes = { before: from.valueSize, after: to.valueSize };
  let moved = 0;
  for (let index = 0; index < Math.min(from.maxEntries, to.maxEntries); index++) {
    const key = indexKey(index);
    const [value, there] = [from.lookup(key), to.lookup(key)];
    if (!value || there?.some((byte) => byte !== 0)) continue;
    to.update(key, carryValues(value, 1, sizes, runs));
    moved++;
  }
  return moved;
}

function indexKey(index: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(index).buffer);
}
