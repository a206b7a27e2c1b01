const BATCH = 4096;

/** `count` keys and values, back to back; the buffers are reused by the next batch. */
export interface Batch {
  keys: Uint8Array;
  values: Uint8Array;
  count: number;
}

/** What of a map a walk needs. */
export interface WalkedTable {
  readonly keySize: number;
  readonly valueSize: number;
  lookupBatch(size?: number): AsyncIterable<Batch>;
}

/** Every entry of a table, a batch at a time. */
export function walk(table: WalkedTable): AsyncIterable<Batch> {
  return table.lookupBatch(BATCH);
}
