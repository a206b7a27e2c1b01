import { duplicate, HANDLE, Handle, Owned } from './handle.ts';
import type { BpfMap } from './map.ts';
import { Mapping } from './mapping.ts';
import { type RingMemory, takeRecords } from './ring-reader.ts';
import { pageSize } from './system.ts';

/** The reader of a ring buffer: there can be only one of each, whoever it is. */
export class RingBuffer extends Owned {
  readonly #mappings: Mapping[] = [];
  readonly #memory: RingMemory;

  /** Goes on where the last reader was; the map may be closed before the ring is. */
  constructor(map: BpfMap) {
    if (map.type !== 'ringbuf') throw new TypeError(`${map.name} is no ring buffer`);
    super(new Handle(duplicate(map[HANDLE].fd), `ring buffer ${map.name}`));
    try {
      const [fd, page, name] = [this[HANDLE].fd, pageSize(), map.name];
      const consumer = new Mapping(fd, page, name);
      this.#mappings.push(consumer);
      const length = page + 2 * map.maxEntries;
      const records = new Mapping(fd, length, name, { offset: page, writable: false });
      this.#mappings.push(records);
      const { bytes } = records;
      this.#memory = {
        consumer: consumer.bytes,
        producer: bytes.subarray(0, page),
        data: bytes.subarray(page),
      };
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Takes the records that are there, oldest first, up to one that is still being written. What
   * programs add meanwhile is for the next call; what does not fit is theirs to lose. Throws
   * E_CLOSED after `close`, in the middle of it too.
   */
  take(): Generator<Uint8Array, void> {
    const check = () => void this[HANDLE].fd;
    check();
    return takeRecords(this.#memory, check);
  }

  override close(): void {
    for (const mapping of this.#mappings.splice(0)) mapping.close();
    super.close();
  }
}
