import { setImmediate as nextTurn } from 'node:timers/promises';
import { check, EINTR, EINVAL, ENOENT, ENOSPC, ENOTSUPP } from './error.ts';
import { callAsync, type Fd, libbpf } from './ffi.ts';
import { HANDLE } from './handle.ts';
import type { BpfMap } from './map.ts';

/** Entries back to back: `count` keys of `keySize` and values of `valueStride` bytes. */
export interface Batch {
  keys: Uint8Array;
  values: Uint8Array;
  count: number;
}

/** Memory of a walk; the values' part grows with the keys'. */
interface Buffers {
  capacity: number;
  keys: Uint8Array;
  values: Uint8Array;
}

const EINTR_RETRIES = 5;

/**
 * The next batch is read while the one before is in use: there are two buffers, and they take
 * turns. A walk that is given up waits for what the kernel still writes.
 */
export async function* walkElements(
  map: BpfMap,
  size: number,
): AsyncGenerator<Batch, void, undefined> {
  const reader = createReader(map, size);
  let next = reader.read();
  try {
    for (;;) {
      const { rc, batch } = await next;
      if (reader.isFirst && (rc === -ENOTSUPP || rc === -EINVAL)) {
        yield* walkByKey(map, size);
        return;
      }
      if (rc !== -ENOENT) check(rc, () => `walk ${map.name}`);
      if (rc !== -ENOENT) next = reader.read();
      if (batch.count > 0) yield batch;
      if (rc === -ENOENT) return;
    }
  } finally {
    await next.catch(() => {});
  }
}

interface Read {
  rc: number;
  batch: Batch;
}

/** Reads batch after batch, into two buffers by turns, from where the one before ended. */
function createReader(map: BpfMap, size: number) {
  const buffers = [allocate(map, size), allocate(map, size)];
  let from: Uint8Array | null = null;
  let to: Uint8Array = new Uint8Array(Math.max(map.keySize, 8));
  let turn = 0;
  let retries = EINTR_RETRIES;
  return {
    get isFirst() {
      return turn === 1;
    },
    /** Nobody may be waiting yet when it fails. */
    read(): Promise<Read> {
      const result = readInto(turn++ & 1);
      result.catch(() => {});
      return result;
    },
  };

  async function readInto(at: number): Promise<Read> {
    for (;;) {
      const into = buffers[at] ?? allocate(map, size);
      const { rc, count } = await lookupOnce(map, from, to, into);
      if (rc === -ENOSPC) {
        buffers[at] = allocate(map, into.capacity * 2);
        continue;
      }
      if (rc === -EINTR && retries-- > 0) continue;
      [from, to] = [to, from ?? new Uint8Array(to.length)];
      return { rc, batch: batchOf(map, into, count) };
    }
  }
}

export async function updateElements(
  map: BpfMap,
  keys: Uint8Array,
  values: Uint8Array,
  count: number,
): Promise<void> {
  expectRoom(map, keys, values, count);
  if (count === 0) return;
  const done = Uint32Array.of(count);
  const { bpf_map_update_batch: update } = libbpf();
  const rc = await map[HANDLE].during((fd) => callAsync(update, fd, keys, values, done, null));
  if (rc === -ENOTSUPP || rc === -EINVAL) {
    forEach(map, keys, values, count, (key, value) => map.update(key, value));
    return;
  }
  check(rc, () => `update ${count} keys of ${map.name} (${done[0]} done)`);
}

export async function insertElements(
  map: BpfMap,
  keys: Uint8Array,
  values: Uint8Array,
  count: number,
): Promise<number> {
  expectRoom(map, keys, values, count);
  let inserted = 0;
  forEach(map, keys, values, count, (key, value) => {
    if (map.insert(key, value)) inserted++;
  });
  await nextTurn();
  return inserted;
}

export async function deleteElements(
  map: BpfMap,
  keys: Uint8Array,
  count: number,
): Promise<number> {
  expectRoom(map, keys, undefined, count);
  const { bpf_map_delete_batch: remove } = libbpf();
  const done = new Uint32Array(1);
  let deleted = 0;
  for (let at = 0; at < count; ) {
    const rest = keys.subarray(at * map.keySize);
    done[0] = count - at;
    const rc = await map[HANDLE].during((fd) => callAsync(remove, fd, rest, done, null));
    if (rc === -ENOTSUPP || rc === -EINVAL) return deleted + deleteByKey(map, rest, count - at);
    if (rc !== -ENOENT) check(rc, () => `delete ${count - at} keys of ${map.name}`);
    deleted += done[0];
    at += done[0] + 1;
  }
  return deleted;
}

async function lookupOnce(
  map: BpfMap,
  from: Uint8Array | null,
  to: Uint8Array,
  { capacity, keys, values }: Buffers,
): Promise<{ rc: number; count: number }> {
  const count = Uint32Array.of(capacity);
  const { bpf_map_lookup_batch: lookup } = libbpf();
  const rc = await map[HANDLE].during((fd: Fd) =>
    callAsync(lookup, fd, from, to, keys, values, count, null),
  );
  return { rc, count: count[0] ?? 0 };
}

/**
 * For kernels and map types without batches. A deletion under the walk makes it start over;
 * entries may then be seen twice.
 */
export async function* walkByKey(
  map: BpfMap,
  size: number,
): AsyncGenerator<Batch, void, undefined> {
  const buffers = allocate(map, size);
  let count = 0;
  for (const [key, value] of eachElement(map)) {
    buffers.keys.set(key, count * map.keySize);
    buffers.values.set(value, count * map.valueStride);
    if (++count < size) continue;
    yield batchOf(map, buffers, count);
    count = 0;
    await nextTurn();
  }
  if (count > 0) yield batchOf(map, buffers, count);
}

/** Key by key, each a copy. A deletion under the walk makes it start over. */
export function* eachElement(map: BpfMap): Generator<[key: Uint8Array, value: Uint8Array]> {
  let key: Uint8Array | null = null;
  for (;;) {
    const next: Uint8Array = new Uint8Array(map.keySize);
    const rc = libbpf().bpf_map_get_next_key(map[HANDLE].fd, key, next);
    if (rc === -ENOENT) return;
    check(rc, () => `walk ${map.name}`);
    key = next;
    const value = map.lookup(key);
    if (value) yield [key, value];
  }
}

function deleteByKey(map: BpfMap, keys: Uint8Array, count: number): number {
  let deleted = 0;
  for (let i = 0; i < count; i++) {
    if (map.delete(keys.subarray(i * map.keySize, (i + 1) * map.keySize))) deleted++;
  }
  return deleted;
}

function forEach(
  map: BpfMap,
  keys: Uint8Array,
  values: Uint8Array,
  count: number,
  visit: (key: Uint8Array, value: Uint8Array) => void,
): void {
  const { keySize, valueStride } = map;
  for (let i = 0; i < count; i++) {
    visit(
      keys.subarray(i * keySize, (i + 1) * keySize),
      values.subarray(i * valueStride, (i + 1) * valueStride),
    );
  }
}

function allocate(map: BpfMap, capacity: number): Buffers {
  return {
    capacity,
    keys: new Uint8Array(capacity * map.keySize),
    values: new Uint8Array(capacity * map.valueStride),
  };
}

function batchOf(map: BpfMap, { keys, values }: Buffers, count: number): Batch {
  return {
    keys: keys.subarray(0, count * map.keySize),
    values: values.subarray(0, count * map.valueStride),
    count,
  };
}

/** Native code trusts the sizes it is given. */
function expectRoom(
  map: BpfMap,
  keys: Uint8Array,
  values: Uint8Array | undefined,
  count: number,
): void {
  const fits =
    Number.isInteger(count) &&
    count >= 0 &&
    keys.length >= count * map.keySize &&
    (!values || values.length >= count * map.valueStride);
  if (!fits) throw new RangeError(`${map.name}: the buffers do not hold ${count} entries`);
}
