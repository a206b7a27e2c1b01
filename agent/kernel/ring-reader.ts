/** The three parts of a ring buffer's memory, as the kernel maps them. */
export interface RingMemory {
  /** One 64-bit position: bytes that the reader has taken since the buffer was made. */
  consumer: Uint8Array;
  /** One 64-bit position: bytes that programs have reserved. */
  producer: Uint8Array;
  /** The records, twice in a row: one that reaches past the end goes on in the second copy. */
  data: Uint8Array;
}

/** Bytes before each record: its length with the two bits below, and the kernel's own mark. */
const HEADER = 8;
/** Reserved and not written yet; nothing behind it is taken either. */
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;

/**
 * Takes what is in the buffer now, oldest first, up to a record that is still being written. A
 * record shares no memory with the buffer, and is out of it when it is yielded. `check` throws
 * once the memory may no longer be touched.
 */
export function* takeRecords(
  memory: RingMemory,
  check: () => void = () => {},
): Generator<Uint8Array, void> {
  const consumer = positionOf(memory.consumer);
  const { data } = memory;
  const headers = new Int32Array(data.buffer, data.byteOffset, data.length / 4);
  const size = data.length / 2;
  const end = read(positionOf(memory.producer));
  for (let at = read(consumer); at < end; ) {
    const start = at % size;
    const header = Atomics.load(headers, start / 4) >>> 0;
    if (header & BUSY) return;
    const length = header & ~(BUSY | DISCARDED);
    const record = data.slice(start + HEADER, start + HEADER + length);
    at += (HEADER + length + 7) & ~7;
    Atomics.store(consumer, 0, BigInt(at));
    if (header & DISCARDED) continue;
    yield record;
    check();
  }
}

function positionOf({ buffer, byteOffset }: Uint8Array): BigUint64Array {
  return new BigUint64Array(buffer, byteOffset, 1);
}

/** Exact up to 2^53: eight petabytes of records. */
function read(position: BigUint64Array): number {
  return Number(Atomics.load(position, 0));
}
