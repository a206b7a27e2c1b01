import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { unpin } from '../../agent/kernel/fs.ts';
import { type BpfMap, createMap, mapById, openPinnedMap } from '../../agent/kernel/map.ts';
import { walkByKey } from '../../agent/kernel/map-batch.ts';
import { MAP_FLAGS } from '../../agent/kernel/map-types.ts';
import { possibleCpus } from '../../agent/kernel/system.ts';
import { KernelError } from '../../agent/lib/errors.ts';
import { mountBpffs, skipReason } from './sandbox.ts';

const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const readU32 = (bytes: Uint8Array | undefined, at = 0) =>
  new DataView(bytes?.buffer ?? new ArrayBuffer(0), bytes?.byteOffset).getUint32(at, true);

const makeLru = (maxEntries: number) =>
  createMap({ type: 'lru_hash', name: 'test_lru', keySize: 4, valueSize: 8, maxEntries });

async function fill(map: BpfMap, count: number): Promise<void> {
  const keys = new Uint8Array(Uint32Array.from({ length: count }, (_, i) => i).buffer);
  const values = new Uint8Array(BigUint64Array.from({ length: count }, (_, i) => BigInt(i)).buffer);
  await map.updateBatch(keys, values, count);
}

async function readKeys(
  map: BpfMap,
  batchSize: number,
): Promise<{ keys: number[]; batches: number }> {
  const keys: number[] = [];
  let batches = 0;
  for await (const batch of map.lookupBatch(batchSize)) {
    batches++;
    for (let i = 0; i < batch.count; i++) {
      const key = readU32(batch.keys, i * map.keySize);
      keys.push(key);
      if (map.type === 'lru_hash') assert.equal(readU32(batch.values, i * 8), key);
    }
  }
  return { keys: keys.sort((a, b) => a - b), batches };
}

test('a map answers lookups, updates and deletions', { skip: skipReason }, () => {
  using map = makeLru(1024);
  assert.equal(map.type, 'lru_hash');
  assert.equal(map.lookup(u32(1)), undefined);
  map.update(u32(1), u64(7));
  assert.deepEqual(map.lookup(u32(1)), u64(7));
  assert.throws(() => map.update(u32(1), u64(8), 'noexist'), { errnoName: 'EEXIST' });
  assert.throws(() => map.update(u32(2), u64(8), 'exist'), { errnoName: 'ENOENT' });
  assert.equal(map.insert(u32(1), u64(9)), false);
  assert.equal(map.insert(u32(2), u64(9)), true);
  assert.equal(map.delete(u32(1)), true);
  assert.equal(map.delete(u32(1)), false);
  assert.ok(map.memory() > 0);
});

test('keys and values of a wrong size never reach the kernel', { skip: skipReason }, async () => {
  using map = makeLru(1024);
  assert.throws(() => map.lookup(new Uint8Array(3)), RangeError);
  assert.throws(() => map.update(u32(1), new Uint8Array(7)), RangeError);
  assert.throws(() => map.delete(new Uint8Array(8)), RangeError);
  await assert.rejects(map.updateBatch(u32(1), u64(1), 2), RangeError);
});

test('a closed map refuses every use', { skip: skipReason }, async () => {
  const map = makeLru(1024);
  map.close();
  map.close();
  assert.throws(() => map.lookup(u32(1)), { code: 'E_CLOSED' });
  await assert.rejects(map.lookupBatch().next(), { code: 'E_CLOSED' });
});

test('a batch walk sees every entry once, over many batches', { skip: skipReason }, async () => {
  using map = makeLru(65_536);
  await fill(map, 20_000);
  const { keys, batches } = await readKeys(map, 512);
  assert.ok(batches > 39, `${batches} batches`);
  assert.deepEqual(
    keys,
    Array.from({ length: 20_000 }, (_, i) => i),
  );
  assert.equal(await map.count(), 20_000);
});

test('a walk grows its buffers when a bucket does not fit', { skip: skipReason }, async () => {
  using map = makeLru(4096);
  await fill(map, 3900);
  const { keys } = await readKeys(map, 1);
  assert.equal(keys.length, 3900);
  assert.equal(new Set(keys).size, 3900);
});

test('a walk of an empty map ends at once', { skip: skipReason }, async () => {
  using map = makeLru(1024);
  assert.equal(await map.count(), 0);
});

test('a map closed during a walk ends the walk, not the process', {
  skip: skipReason,
}, async () => {
  const map = makeLru(65_536);
  await fill(map, 20_000);
  const walk = map.lookupBatch(1024);
  await walk.next();
  const pending = walk.next();
  map.close();
  assert.equal((await pending).done, false);
  await assert.rejects(walk.next(), { code: 'E_CLOSED' });
});

test('deleting a batch skips keys that are gone', { skip: skipReason }, async () => {
  using map = makeLru(4096);
  await fill(map, 100);
  for (const gone of [0, 1, 50, 99]) map.delete(u32(gone));
  const keys = new Uint8Array(Uint32Array.from({ length: 100 }, (_, i) => i).buffer);
  assert.equal(await map.deleteBatch(keys, 100), 96);
  assert.equal(await map.deleteBatch(keys, 100), 0);
});

test('inserting a batch keeps what is there', { skip: skipReason }, async () => {
  using map = makeLru(4096);
  map.update(u32(1), u64(77));
  const keys = new Uint8Array(Uint32Array.of(0, 1, 2).buffer);
  const values = new Uint8Array(BigUint64Array.of(5n, 5n, 5n).buffer);
  assert.equal(await map.insertBatch(keys, values, 3), 2);
  assert.deepEqual(map.lookup(u32(1)), u64(77));
});

test('a map that knows no batches is walked by its keys', { skip: skipReason }, async () => {
  using map = makeLru(4096);
  await fill(map, 100);
  const keys: number[] = [];
  for await (const batch of walkByKey(map, 16)) {
    assert.ok(batch.count <= 16);
    for (let i = 0; i < batch.count; i++) keys.push(readU32(batch.keys, i * 4));
  }
  assert.equal(new Set(keys).size, 100);
});

test('a walk of a per-CPU map carries the values of all CPUs', { skip: skipReason }, async () => {
  const shape = { type: 'percpu_array', name: 'test_percpu', keySize: 4, valueSize: 8 } as const;
  using map = createMap({ ...shape, maxEntries: 10 });
  assert.equal(map.valueStride, 8 * possibleCpus());
  assert.deepEqual((await readKeys(map, 4)).keys, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test('a per-CPU counter is summed over the CPUs', { skip: skipReason }, () => {
  using map = createMap({
    type: 'percpu_array',
    name: 'test_counter',
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
  });
  const values = new Uint8Array(map.valueStride);
  for (let cpu = 0; cpu < possibleCpus(); cpu++) values.set(u64(cpu + 10), cpu * 8);
  map.update(u32(0), values);
  let expected = 0n;
  for (let cpu = 0; cpu < possibleCpus(); cpu++) expected += BigInt(cpu + 10);
  assert.equal(map.sumU64(u32(0)), expected);
});

test('a prefix map finds the longest prefix', { skip: skipReason }, async () => {
  using map = createMap({
    type: 'lpm_trie',
    name: 'test_lpm',
    keySize: 8,
    valueSize: 4,
    maxEntries: 16,
    flags: MAP_FLAGS.noPrealloc,
  });
  const key = (length: number, ...address: number[]) => Uint8Array.of(length, 0, 0, 0, ...address);
  map.update(key(8, 10, 0, 0, 0), u32(1));
  map.update(key(24, 10, 0, 1, 0), u32(2));
  assert.equal(readU32(map.lookup(key(32, 10, 0, 1, 9))), 2);
  assert.equal(readU32(map.lookup(key(32, 10, 9, 1, 9))), 1);
  assert.equal(await map.count(), 2);
});

test('a pin outlives its map, and gives way in one step', { skip: skipReason }, () => {
  using bpffs = mountBpffs();
  const path = join(bpffs.path, 'table');
  assert.equal(openPinnedMap(path), undefined);
  const first = makeLru(1024);
  const firstId = first.id;
  first.update(u32(1), u64(1));
  first.pin(path);
  first.close();
  {
    using again = openPinnedMap(path);
    assert.equal(again?.id, firstId);
    assert.equal(again?.name, 'test_lru');
    assert.deepEqual(again?.lookup(u32(1)), u64(1));
  }
  using second = makeLru(2048);
  assert.throws(() => second.pin(path), { errnoName: 'EEXIST' });
  second.pin(path, { replace: true });
  using now = openPinnedMap(path);
  assert.equal(now?.id, second.id);
  assert.equal(unpin(path), true);
  assert.equal(unpin(path), false);
});

test('what is no map is not opened as one', { skip: skipReason }, () => {
  using bpffs = mountBpffs();
  const file = join(bpffs.path, '..', 'sekisho-test-no-map');
  writeFileSync(file, '');
  assert.throws(() => openPinnedMap(file), KernelError);
  unpin(file);
});

test('an outer map holds inner maps of different sizes', { skip: skipReason }, () => {
  using small = makeLru(1024);
  using large = makeLru(4096);
  using outer = createMap({
    type: 'array_of_maps',
    name: 'test_outer',
    keySize: 4,
    valueSize: 4,
    maxEntries: 2,
    inner: small,
  });
  assert.equal(outer.lookupId(u32(0)), undefined);
  outer.updateFd(u32(0), small);
  outer.updateFd(u32(1), large);
  assert.equal(outer.lookupId(u32(0)), small.id);
  assert.equal(outer.lookupId(u32(1)), large.id);
  assert.equal(outer.delete(u32(1)), true);
  assert.equal(outer.lookupId(u32(1)), undefined);
  using byId = mapById(outer.lookupId(u32(0)) ?? 0);
  assert.equal(byId?.maxEntries, 1024);
  assert.equal(mapById(0x7fffffff), undefined);
});

test('mapped memory is the live map, and empty once the map is closed', {
  skip: skipReason,
}, () => {
  const map = createMap({
    type: 'array',
    name: 'test_mmap',
    keySize: 4,
    valueSize: 8,
    maxEntries: 1000,
    flags: MAP_FLAGS.mmapable,
  });
  const memory = map.mmap();
  assert.equal(memory.length, 8000);
  map.update(u32(999), u64(42));
  assert.equal(memory[999 * 8], 42);
  memory[8] = 9;
  assert.deepEqual(map.lookup(u32(1)), u64(9));
  map.close();
  assert.equal(memory.length, 0);
  assert.equal(memory[8], undefined);
});

test('a refusal names the operation and the errno', { skip: skipReason }, () => {
  const shape = { type: 'lru_hash', name: 'bad', keySize: 4, valueSize: 8 } as const;
  assert.throws(
    () => createMap({ ...shape, maxEntries: 0 }),
    (error) =>
      error instanceof KernelError &&
      error.errno === 22 &&
      error.message === 'cannot create map bad (0 entries): invalid argument (EINVAL)',
  );
  assert.throws(() => createMap({ ...shape, maxEntries: 2 ** 40 }), RangeError);
});
