import { kernelError } from './error.ts';
import { type Fd, lastErrno, libc, viewOf } from './ffi.ts';

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** A map's memory inside this process. */
export class Mapping {
  readonly bytes: Uint8Array;
  readonly #address: number | bigint;
  readonly #size: number;

  constructor(fd: Fd, size: number, name: string) {
    this.#size = size;
    const address = libc().mmap(null, size, PROT_READ_WRITE, MAP_SHARED, fd, 0);
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
