import { addressOf } from './ffi.ts';

/**
 * An options struct of libbpf (or the union bpf_attr): zeros, its size first where libbpf wants
 * it. Keeps the memory that its pointers lead to referenced as long as it lives itself.
 */
export class Opts {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #held: Uint8Array[] = [];

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
    this.#view.setBigUint64(0, BigInt(size), true);
  }

  u32(offset: number, value: number): this {
    this.#view.setUint32(offset, value, true);
    return this;
  }

  u64(offset: number, value: number): this {
    this.#view.setBigUint64(offset, BigInt(value), true);
    return this;
  }

  pointer(offset: number, memory: Uint8Array): this {
    this.#held.push(memory);
    this.#view.setBigUint64(offset, addressOf(memory), true);
    return this;
  }

  getU32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
}
