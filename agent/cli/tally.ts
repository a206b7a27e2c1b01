const FIRST_SLOTS = 1 << 10;
const CHUNK = 1 << 12;
const EMPTY = -1;

/**
 * Counts how often each key was added: exactly, and in 4 bytes for each 32-bit word of a key plus
 * 16 at most, where a Map would take 200. Keys are numbered in the order of their arrival.
 */
export class Tally {
  readonly #words: number;
  readonly #stride: number;
  /** Records of `CHUNK` keys each: the words of a key, then its count. */
  readonly #chunks: Uint32Array[] = [];
  #slots = new Int32Array(FIRST_SLOTS).fill(EMPTY);
  #size = 0;

  /** `words` is the number of 32-bit words in a key. */
  constructor(words: number) {
    this.#words = words;
    this.#stride = words + 1;
  }

  /** Number of different keys. */
  get size(): number {
    return this.#size;
  }

  /** The number of the key. */
  add(key: Uint32Array): number {
    const slot = this.#find(key, 0);
    let number = this.#slots[slot] ?? EMPTY;
    if (number === EMPTY) {
      number = this.#append(key);
      this.#slots[slot] = number;
      if (2 * this.#size > this.#slots.length) this.#grow();
    }
    const chunk = this.#chunkOf(number);
    const at = this.#offsetOf(number) + this.#words;
    chunk[at] = (chunk[at] ?? 0) + 1;
    return number;
  }

  count(number: number): number {
    return this.#chunkOf(number)[this.#offsetOf(number) + this.#words] ?? 0;
  }

  /** The key's words; they share memory with the tally. */
  key(number: number): Uint32Array {
    const at = this.#offsetOf(number);
    return this.#chunkOf(number).subarray(at, at + this.#words);
  }

  /** The slot that leads to the key at `at`, or the empty one where it belongs. */
  #find(words: Uint32Array, at: number): number {
    const mask = this.#slots.length - 1;
    let slot = hash(words, at, this.#words) & mask;
    for (;;) {
      const number = this.#slots[slot] ?? EMPTY;
      if (number === EMPTY || this.#holds(number, words, at)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #holds(number: number, words: Uint32Array, at: number): boolean {
    const chunk = this.#chunkOf(number);
    const own = this.#offsetOf(number);
    for (let i = 0; i < this.#words; i++) if (chunk[own + i] !== words[at + i]) return false;
    return true;
  }

  #append(key: Uint32Array): number {
    const number = this.#size++;
    if (number % CHUNK === 0) this.#chunks.push(new Uint32Array(CHUNK * this.#stride));
    this.#chunkOf(number).set(key, this.#offsetOf(number));
    return number;
  }

  #grow(): void {
    this.#slots = new Int32Array(2 * this.#slots.length).fill(EMPTY);
    for (let number = 0; number < this.#size; number++) {
      this.#slots[this.#find(this.#chunkOf(number), this.#offsetOf(number))] = number;
    }
  }

  #chunkOf(number: number): Uint32Array {
    return this.#chunks[Math.floor(number / CHUNK)] as Uint32Array;
  }

  #offsetOf(number: number): number {
    return (number % CHUNK) * this.#stride;
  }
}

/** FNV-1a by words, stirred at the end: its low bits alone would be poor. */
function hash(words: Uint32Array, at: number, count: number): number {
  let hash = 0x811c9dc5;
  for (let i = at; i < at + count; i++) hash = Math.imul(hash ^ (words[i] ?? 0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return hash ^ (hash >>> 13);
}
