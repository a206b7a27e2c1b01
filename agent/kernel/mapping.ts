import { kernelError } from './error.ts';
import { type Fd, lastErrno, libc, viewOf } from './ffi.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;

export interface MappingOptions {
  /** Bytes, in whole pages. */
  offset?: number;
  /** False: whoever writes to it ends the process. */
  writable?: boolean;
}

/** A map's memory inside this process. */
export class Mapping {
  readonly bytes: Uint8Array;
  readonly #address: number | bigint;
  readonly #size: number;

  constructor(
    fd: Fd,
    size: number,
    name: string,
    { offset = 0, writable = true }: MappingOptions = {},
  ) {
    this.#size = size;
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const address = libc().mmap(null, size, protection, MAP_SHARED, fd, offset);
    if (Number(address) === -1) throw kernelError(lastErrno(), `map the memory of ${name}`);
    this.#address = address;
    this.bytes = viewOf(address, size);
  }

  /** Detaches every view first: one that outlived the mapping would fault. */
  close(): void {
    (this.bytes.buffer as ArrayBuffer).transfer();
    libc().munmap(this.#address, this.#size);
  }
}
