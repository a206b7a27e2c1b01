import { mix } from './mix.ts';

/** Any other than the seeds of `mix`. */
const NUMBER = 0x5bd1e995;
const FEWEST = 1 << 12;
const MOST = 1 << 22;

/**
 * Finds NAT halves without their other half in constant memory and without a single lookup: both
 * halves of a pair fall into the same bucket, one adds the pair's number to it and the other takes
 * it away. A bucket that is not level holds a lone half, perhaps among complete pairs.
 */
export class PairBalance {
  readonly #buckets: Int32Array;
  readonly #addressSize: number;
  readonly #valueAddress: number;
  readonly #valuePort: number;
  readonly #seed: number;
  /** Buckets that are not level. */
  #odd = 0;

  /** `keySize` of the table in bytes; where a value holds its address and port. */
  constructor(
    { capacity, keySize }: { capacity: number; keySize: number },
    offsets: { address: number; port: number },
    seed = Math.floor(Math.random() * 2 ** 32),
  ) {
    const wanted = 2 ** Math.ceil(Math.log2(capacity));
    this.#buckets = new Int32Array(Math.min(MOST, Math.max(FEWEST, wanted)));
    this.#addressSize = (keySize - 8) / 2;
    this.#valueAddress = offsets.address;
    this.#valuePort = offsets.port;
    this.#seed = seed;
  }

  /** Takes a half, key and value at their offsets. */
  add(keys: DataView, key: number, values: DataView, value: number, reverse: boolean): void {
    const hash = this.#hash(keys, key, values, value, reverse);
    const bucket = hash & (this.#buckets.length - 1);
    const number = mix(hash, NUMBER);
    const before = this.#buckets[bucket] ?? 0;
    const after = (before + (reverse ? -number : number)) | 0;
    this.#buckets[bucket] = after;
    this.#odd += Number(after !== 0) - Number(before !== 0);
  }

  /** Once all have been added: may this one be alone? */
  isOdd(keys: DataView, key: number, values: DataView, value: number, reverse: boolean): boolean {
    const hash = this.#hash(keys, key, values, value, reverse);
    return this.#buckets[hash & (this.#buckets.length - 1)] !== 0;
  }

  /** Are all pairs complete? */
  get isLevel(): boolean {
    return this.#odd === 0;
  }

  /** The three ends of a pair, from whichever half: its source, its mapping, its peer. */
  #hash(keys: DataView, key: number, values: DataView, value: number, reverse: boolean): number {
    const size = this.#addressSize;
    const ports = key + 2 * size;
    const first = this.#end(keys, key, ports);
    const second = this.#end(keys, key + size, ports + 2);
    const inside = this.#end(values, value + this.#valueAddress, value + this.#valuePort);
    // forward: source, peer | mapping; reverse: peer, mapping | source
    const source = reverse ? inside : first;
    const peer = reverse ? first : second;
    const mapping = reverse ? second : inside;
    const hash = mix(mix(mix(this.#seed, source), peer), mapping ^ keys.getUint8(ports + 4));
    return hash ^ (hash >>> 16);
  }

  #end(bytes: DataView, address: number, port: number): number {
    let hash = this.#seed;
    for (let at = 0; at < this.#addressSize; at += 4) {
      hash = mix(hash, bytes.getUint32(address + at, true));
    }
    return mix(hash, bytes.getUint16(port, true));
  }
}
