import { reap_limit } from '../abi/generated.ts';
import type { ReapResult } from './reap.ts';
import { type WalkedTable, walk } from './walk.ts';

const KEYS_PER_REAP = reap_limit.REAP_BATCH;

/** Hands keys over; resolves when they may be overwritten. */
export type HandOver = (keys: Uint8Array, count: number) => Promise<ReapResult>;

/** Adds what a part of the keys came to. */
export function addReap(total: ReapResult, part: ReapResult): void {
  total.deleted += part.deleted;
  total.skipped += part.skipped;
  total.natDeleted += part.natDeleted;
  total.failed += part.failed;
  total.completed += part.completed;
  total.now = part.now;
}

/** Keys that are handed over a reap's worth at a time, and what became of them in all. */
export class KeyGroup {
  readonly total: ReapResult = {
    ...{ deleted: 0, skipped: 0, natDeleted: 0, failed: 0, completed: 0, now: 0 },
  };
  readonly #handOver: HandOver;
  readonly #keys: Uint8Array;
  readonly #words: Uint32Array;
  readonly #keyWords: number;
  #count = 0;
  #limit: number = KEYS_PER_REAP;

  /** `keySize` in bytes, a multiple of 4. */
  constructor(keySize: number, handOver: HandOver) {
    this.#keyWords = keySize / 4;
    this.#keys = new Uint8Array(keySize * KEYS_PER_REAP);
    this.#words = new Uint32Array(this.#keys.buffer);
    this.#handOver = handOver;
  }

  get full(): boolean {
    return this.#count >= this.#limit;
  }

  /** Hands over sooner, when this many have come together. */
  limit(count: number): void {
    this.#limit = Math.max(1, Math.min(count, KEYS_PER_REAP));
  }

  /** Takes the key with this number; `keys` are those of a batch, as words. */
  push(keys: Uint32Array, index: number): void {
    const size = this.#keyWords;
    const to = this.#count * size;
    const from = index * size;
    for (let i = 0; i < size; i++) this.#words[to + i] = keys[from + i] as number;
    this.#count++;
  }

  /** Hands over what has come together. */
  async flush(): Promise<void> {
    if (this.#count === 0) return;
    const count = this.#count;
    this.#count = 0;
    addReap(this.total, await this.#handOver(this.#keys, count));
  }
}

/** Looks at an entry, key and value at their offsets; says which group its key belongs to. */
export type Pick = (
  keys: DataView,
  key: number,
  values: DataView,
  value: number,
) => KeyGroup | undefined;

export interface SiftOptions {
  /** Before every batch. */
  onBatch?(): void;
  /** After every batch: ends the walk. */
  isDone?(): boolean;
}

/** Walks a table; groups that fill up are handed over, the rest is the caller's to flush. */
export async function sift(
  table: WalkedTable,
  pick: Pick,
  { onBatch, isDone }: SiftOptions = {},
): Promise<void> {
  const { keySize, valueSize } = table;
  for await (const { keys, values, count } of walk(table)) {
    onBatch?.();
    const [keyView, valueView, words] = [viewOf(keys), viewOf(values), wordsOf(keys)];
    for (let i = 0; i < count; i++) {
      const group = pick(keyView, i * keySize, valueView, i * valueSize);
      if (!group) continue;
      group.push(words, i);
      if (group.full) await group.flush();
    }
    if (isDone?.()) return;
  }
}

/** Bytes as numbers of 32 bits; their length is a multiple of 4. */
function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array): Uint32Array {
  return new Uint32Array(buffer, byteOffset, byteLength / 4);
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
