import { createCursor } from '../abi/cursor.ts';
import { layouts, type Tuple } from '../abi/generated.ts';
import type { Layout } from '../abi/layout.ts';
import type { BpfMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from './names.ts';
import { openSlots, type TableSlots } from './slots.ts';

/**
 * What is done with an entry. Both arguments are windows on the batch that was read: what is to
 * stay beyond the call, and beyond its promise, is copied. A promise holds the walk up.
 */
export type Visit<Entry> = (tuple: Tuple, entry: Entry) => Promise<void> | undefined;

/** Whether an entry of a batch is to be shown; may put its value right. */
type Select = (key: Uint8Array, value: Uint8Array) => boolean;

/**
 * Visits every entry of a connection table once, in no order; a million entries never sit in
 * memory, and nothing is made of an entry that nobody looks at.
 *
 * During a resize the previous map comes first, and whole, with the values of what was promoted
 * meanwhile: entries only ever move from there to the current map, and stay behind as well. So
 * of the current map only what the previous one lacks is left to show.
 */
export async function walkConnections<Entry>(
  bpffs: string,
  family: Family,
  table: ConnectionTable,
  value: Layout<Entry>,
  visit: Visit<Entry>,
): Promise<void> {
  using slots = openSlots(bpffs, family, table, value);
  const { current, previous } = slots;
  const walk = createWalk(layouts[family].tuple, value, visit);
  if (!previous) {
    await walk(current);
    return;
  }
  const scratch = new Uint8Array(value.size);
  await walk(previous, (key, bytes) => {
    current.lookupInto(key, bytes);
    return true;
  });
  await walk(current, (key) => !previous.lookupInto(key, scratch));
}

/** Entries of both maps, each once. */
export async function countEntries({ current, previous }: TableSlots): Promise<number> {
  if (!previous) return current.count();
  let total = await previous.count();
  const scratch = new Uint8Array(previous.valueSize);
  for await (const { keys, count } of current.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      if (!previous.lookupInto(structAt(keys, current.keySize, i), scratch)) total++;
    }
  }
  return total;
}

function createWalk<Entry>(key: Layout<Tuple>, value: Layout<Entry>, visit: Visit<Entry>) {
  const tuple = createCursor(key);
  const entry = createCursor(value);
  return async (map: BpfMap, select?: Select): Promise<void> => {
    for await (const { keys, values, count } of map.lookupBatch()) {
      tuple.enter(keys);
      entry.enter(values);
      for (let i = 0; i < count; i++) {
        if (select && !select(structAt(keys, key.size, i), structAt(values, value.size, i)))
          continue;
        tuple.moveTo(i);
        entry.moveTo(i);
        const wait = visit(tuple.row, entry.row);
        if (wait) await wait;
      }
    }
  };
}

function structAt(bytes: Uint8Array, size: number, index: number): Uint8Array {
  return bytes.subarray(index * size, (index + 1) * size);
}
