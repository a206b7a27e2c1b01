import { SekishoError } from '../lib/errors.ts';
import { kernelError } from './error.ts';
import { callAsync, type Fd, lastErrno, libc } from './ffi.ts';
import { HANDLE, Handle } from './handle.ts';
import type { RingBuffer } from './ring-buffer.ts';

const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const CLOEXEC = 0o2000000;
/** struct epoll_event is packed on x86-64 only. */
const EPOLL_EVENT = process.arch === 'x64' ? 12 : 16;

/**
 * Waits for records in any of some ring buffers. A wait parks one thread of the pool, however many
 * buffers there are: of the four that there are by default, three are left for everything else.
 */
export class RingWait {
  readonly #epoll: Handle;
  /** Readable once this is closed. */
  readonly #wake: Handle;
  #closed = false;
  /** The process ends only when the threads of the pool have. */
  readonly #onExit = () => this.#wakeUp();

  constructor(rings: readonly RingBuffer[]) {
    const { epoll_create1, eventfd } = libc();
    this.#epoll = new Handle(made(epoll_create1(CLOEXEC)), 'a wait');
    let wake: Handle | undefined;
    try {
      wake = new Handle(made(eventfd(0, CLOEXEC)), 'an eventfd');
      for (const handle of [wake, ...rings.map((ring) => ring[HANDLE])]) this.#add(handle);
    } catch (error) {
      wake?.close();
      this.#epoll.close();
      throw error;
    }
    this.#wake = wake;
    process.on('exit', this.#onExit);
  }

  /**
   * Resolves with true when there may be records that `take` has not seen yet, and with false
   * once this is closed. Throws E_CLOSED after `close`.
   */
  async wait(): Promise<boolean> {
    if (this.#closed) throw new SekishoError('E_CLOSED', 'a wait for records is closed');
    const events = new Uint8Array(EPOLL_EVENT);
    // A signal ends it early, which is no harm; nothing else makes it fail.
    await this.#wake.during(() =>
      this.#epoll.during((fd) => callAsync(libc().epoll_wait, fd, events, 1, -1)),
    );
    return !this.#closed;
  }

  /** Ends waits that are under way. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    process.off('exit', this.#onExit);
    this.#wakeUp();
    this.#epoll.close();
    this.#wake.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #add(handle: Handle): void {
    const event = new Uint8Array(EPOLL_EVENT);
    new DataView(event.buffer).setUint32(0, EPOLLIN, true);
    made(libc().epoll_ctl(this.#epoll.fd, EPOLL_CTL_ADD, handle.fd, event));
  }

  #wakeUp(): void {
    libc().write(this.#wake.fd, new Uint8Array(BigUint64Array.of(1n).buffer), 8);
  }
}

function made(result: number): Fd {
  if (result < 0) throw kernelError(lastErrno(), 'wait for records');
  return result as Fd;
}
