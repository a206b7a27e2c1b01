import { reap_limit } from '../abi/generated.ts';
import type { ReapResult } from './reap.ts';

const KEYS_PER_REAP = reap_limit.REAP_BATCH;

/** Hands keys over; resolves when they may be overwritten. */
export type HandOver = (keys: Uint8Array, count: number) => Promise<ReapResult>;

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

  /** `keySize` in bytes, a multiple of 4. */
  constructor(keySize: number, handOver: HandOver) {
    this.#keyWords = keySize / 4;
    this.#keys = new Uint8Array(keySize * KEYS_PER_REAP);
    this.#words = new Uint32Array(this.#keys.buffer);
    this.#handOver = handOver;
  }

  get full(): boolean {
    return this.#count === KEYS_PER_REAP;
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
    const { total } = this;
    const result = await this.#handOver(this.#keys, count);
    total.deleted += result.deleted;
    total.skipped += result.skipped;
    total.natDeleted += result.natDeleted;
    total.failed += result.failed;
    total.completed += result.completed;
    total.now = result.now;
  }
}

/** Bytes as numbers of 32 bits; their length is a multiple of 4. */
export function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array): Uint32Array {
  return new Uint32Array(buffer, byteOffset, byteLength / 4);
}

export function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
