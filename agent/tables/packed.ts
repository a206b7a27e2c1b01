import { createCursor } from '../abi/cursor.ts';
import type { Layout } from '../abi/layout.ts';
import type { BpfMap } from '../kernel/map.ts';

const FIRST_ROOM = 1024;

/**
 * Rows of a map as the kernel had them, back to back: a quarter of a million backends take 12 MB,
 * where objects would take a hundred.
 */
export interface PackedRows<Key, Value> {
  count: number;
  /** The row with this number. Its fields are read when asked for, and hold until the next call. */
  at(number: number): { key: Key; value: Value };
}

/** Reads a whole map, off the event loop. */
export async function readPacked<Key, Value>(
  map: BpfMap,
  layouts: { key: Layout<Key>; value: Layout<Value> },
): Promise<PackedRows<Key, Value>> {
  let keys = new Uint8Array(FIRST_ROOM * map.keySize);
  let values = new Uint8Array(FIRST_ROOM * map.valueSize);
  let count = 0;
  for await (const batch of map.lookupBatch()) {
    keys = withRoom(keys, (count + batch.count) * map.keySize);
    values = withRoom(values, (count + batch.count) * map.valueSize);
    keys.set(batch.keys, count * map.keySize);
    values.set(batch.values, count * map.valueSize);
    count += batch.count;
  }
  const key = createCursor(layouts.key);
  const value = createCursor(layouts.value);
  key.enter(keys);
  value.enter(values);
  const row = { key: key.row, value: value.row };
  return {
    count,
    at(number) {
      key.moveTo(number);
      value.moveTo(number);
      return row;
    },
  };
}

/** Numbers of the rows in the order of their rank; the same rank as they were read. */
export function orderBy<Key, Value>(
  rows: PackedRows<Key, Value>,
  rank: (key: Key, value: Value) => number,
): Uint32Array {
  const ranks = Float64Array.from({ length: rows.count }, (_, i) => {
    const { key, value } = rows.at(i);
    return rank(key, value);
  });
  return Uint32Array.from(ranks.keys()).sort((a, b) => (ranks[a] ?? 0) - (ranks[b] ?? 0));
}

function withRoom(bytes: Uint8Array<ArrayBuffer>, needed: number): Uint8Array<ArrayBuffer> {
  if (needed <= bytes.length) return bytes;
  const larger = new Uint8Array(Math.max(needed, 2 * bytes.length));
  larger.set(bytes);
  return larger;
}
