import { openSync, readlinkSync } from 'node:fs';
import { SekishoError } from '../lib/errors.ts';
import { check, ENOENT, kernelError } from './error.ts';
import { type Fd, lastErrno, libbpf, libc } from './ffi.ts';

const O_CLOEXEC = 0o2000000;

/** Where an object of this directory keeps its handle, out of reach of everyone else. */
export const HANDLE = Symbol('handle');

/** Owns one file descriptor. Closing waits for calls that still use it on other threads. */
export class Handle {
  readonly #what: string;
  readonly #fd: Fd;
  #users = 0;
  #closed = false;

  constructor(fd: Fd, what: string) {
    this.#fd = fd;
    this.#what = what;
  }

  /** Throws E_CLOSED after `close`. */
  get fd(): Fd {
    if (this.#closed) throw new SekishoError('E_CLOSED', `${this.#what} is closed`);
    return this.#fd;
  }

  /** Runs an asynchronous call; the descriptor cannot be closed, and reused, under it. */
  async during<T>(call: (fd: Fd) => Promise<T>): Promise<T> {
    const fd = this.fd;
    this.#users++;
    try {
      return await call(fd);
    } finally {
      this.#users--;
      if (this.#closed && this.#users === 0) libc().close(fd);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#users === 0) libc().close(this.#fd);
  }
}

/** A kernel object behind a file descriptor. */
export abstract class Owned {
  readonly [HANDLE]: Handle;

  constructor(handle: Handle) {
    this[HANDLE] = handle;
  }

  close(): void {
    this[HANDLE].close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A second descriptor for the same kernel object, closed on exec. */
export function duplicate(fd: Fd): Fd {
  const target = openSync('/dev/null', 'r');
  const rc = libc().dup3(fd, target, O_CLOEXEC);
  if (rc >= 0) return target as Fd;
  const errno = lastErrno();
  libc().close(target as Fd);
  throw kernelError(errno, 'duplicate a file descriptor');
}

export type PinnedKind = 'map' | 'prog' | 'link';

/** Descriptor of a pinned object of one of the kinds, or undefined where nothing is pinned. */
export function openPinned<Kind extends PinnedKind>(
  path: string,
  ...kinds: readonly Kind[]
): { fd: Fd; kind: Kind } | undefined {
  const rc = libbpf().bpf_obj_get(path);
  if (rc === -ENOENT) return undefined;
  const fd = check(rc, `open ${path}`) as Fd;
  const found = readlinkSync(`/proc/self/fd/${fd}`);
  const kind = kinds.find((name) => /bpf[-_](\w+)$/.exec(found)?.[1] === name);
  if (kind !== undefined) return { fd, kind };
  libc().close(fd);
  throw new SekishoError('E_LAYOUT', `${path} is no BPF ${kinds.join(' or ')} but ${found}`);
}

/** Reads the kernel's description of an object into a buffer of `size` bytes. */
export function readInfo(fd: Fd, size: number): DataView<ArrayBuffer> {
  const info = new Uint8Array(size);
  const length = Uint32Array.of(size);
  check(libbpf().bpf_obj_get_info_by_fd(fd, info, length), 'read the info of a BPF object');
  return new DataView(info.buffer);
}

/** A NUL-terminated name inside a fixed field. */
export function readName(info: DataView<ArrayBuffer>, offset: number, size = 16): string {
  const field = Buffer.from(info.buffer, offset, size);
  const end = field.indexOf(0);
  return field.toString('latin1', 0, end < 0 ? size : end);
}
