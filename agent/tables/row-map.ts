import type { BpfMap } from '../kernel/map.ts';

const BATCH = 4096;

/** How rows of one kind stand in a map: a key and a value, each of a fixed size. */
export interface RowCodec<Row> {
  keySize: number;
  valueSize: number;
  /** Writes the key at an offset; the bytes there are zero. */
  writeKey(row: Row, bytes: Uint8Array, offset: number): void;
  writeValue(row: Row, bytes: Uint8Array, offset: number): void;
  read(keys: Uint8Array, key: number, values: Uint8Array, value: number): Row;
}

/** Every row of a map, a batch at a time off the event loop. */
export async function readRows<Row>(map: BpfMap, codec: RowCodec<Row>): Promise<Row[]> {
  const rows: Row[] = [];
  const { keySize, valueStride } = map;
  for await (const { keys, values, count } of map.lookupBatch(BATCH)) {
    for (let i = 0; i < count; i++) {
      rows.push(codec.read(keys, i * keySize, values, i * valueStride));
    }
  }
  return rows;
}

/** Writes whole rows, in their order. */
export async function writeRows<Row>(
  map: BpfMap,
  codec: RowCodec<Row>,
  rows: readonly Row[],
): Promise<void> {
  for (let from = 0; from < rows.length; from += BATCH) {
    const part = rows.slice(from, from + BATCH);
    const values = new Uint8Array(part.length * codec.valueSize);
    for (const [i, row] of part.entries()) codec.writeValue(row, values, i * codec.valueSize);
    await map.updateBatch(packKeys(codec, part), values, part.length);
  }
}

/** Deletes the rows that are there, in their order; their number. */
export async function deleteRows<Row>(
  map: BpfMap,
  codec: RowCodec<Row>,
  rows: readonly Row[],
): Promise<number> {
  let deleted = 0;
  for (let from = 0; from < rows.length; from += BATCH) {
    const part = rows.slice(from, from + BATCH);
    deleted += await map.deleteBatch(packKeys(codec, part), part.length);
  }
  return deleted;
}

function packKeys<Row>(codec: RowCodec<Row>, rows: readonly Row[]): Uint8Array {
  const keys = new Uint8Array(rows.length * codec.keySize);
  for (const [i, row] of rows.entries()) codec.writeKey(row, keys, i * codec.keySize);
  return keys;
}
