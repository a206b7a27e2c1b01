import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createMap } from '../../agent/kernel/map.ts';
import { openObject } from '../../agent/kernel/object.ts';
import { KernelError } from '../../agent/lib/errors.ts';
import { skipReason } from './sandbox.ts';

const SOURCE = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
const volatile struct { __u32 step; __u32 spare; } config = { 1, 2 };
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");
SEC("syscall") int count(struct { __u64 out; } *ctx)
{
	__u32 key = 1;
	__u64 one = config.step, *found = bpf_map_lookup_elem(&seen, &key);
	if (found)
		*found += config.step;
	else
		bpf_map_update_elem(&seen, &key, &one, 0);
	ctx->out = config.spare;
	return config.step;
}
SEC("tc") int broken(struct __sk_buff *skb)
{
	return *(__u8 *)(long)skb->data;
}
char _license[] SEC("license") = "GPL";
`;

const directory = mkdtempSync(join(tmpdir(), 'sekisho-object-'));
after(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'sample.bpf.o');
const skip = skipReason || compile();

/** Why there is no object to test with, or false. */
function compile(): string | false {
  const flags = ['-target', 'bpf', '-O2', '-g', '-I/usr/include/x86_64-linux-gnu'];
  const arguments_ = [...flags, '-x', 'c', '-c', '-', '-o', path];
  for (const clang of ['clang-19', 'clang']) {
    if (spawnSync(clang, arguments_, { input: SOURCE }).status === 0) return false;
  }
  return 'needs clang and the headers of libbpf';
}

test('an object lists what it declares', { skip }, () => {
  using object = openObject(path);
  assert.deepEqual(object.maps().slice(0, 1), ['seen']);
  assert.deepEqual(object.programs(), ['count', 'broken']);
  assert.throws(() => object.map('nothing'), { code: 'E_NOT_FOUND' });
  assert.throws(() => object.setAutoload('nothing', false), { code: 'E_NOT_FOUND' });
});

test('constants, sizes and the choice of programs take effect at load', { skip }, async () => {
  using object = openObject(path);
  assert.deepEqual([...object.rodata()], [1, 0, 0, 0, 2, 0, 0, 0]);
  object.setRodata(new Uint8Array(Uint32Array.of(5).buffer));
  assert.throws(() => object.setRodata(new Uint8Array(9)), RangeError);
  object.setMaxEntries('seen', 4096);
  object.setAutoload('broken', false);
  await object.loadAsync();
  using program = object.program('count');
  using map = object.map('seen');
  object.close();
  assert.equal(map.maxEntries, 4096);
  const ctx = new Uint8Array(8);
  assert.equal(program.run(ctx), 5);
  program.run(ctx);
  assert.equal(ctx[0], 2);
  assert.equal(map.lookup(Uint8Array.of(1, 0, 0, 0))?.[0], 10);
});

test('an object works on a map that was there before', { skip }, () => {
  const shape = { type: 'lru_hash', name: 'seen', keySize: 4, valueSize: 8 } as const;
  using map = createMap({ ...shape, maxEntries: 512 });
  using object = openObject(path);
  object.reuseMap('seen', map);
  object.setAutoload('broken', false);
  object.load();
  using same = object.map('seen');
  assert.equal(same.id, map.id);
});

test('a map of another layout is not reused', { skip }, () => {
  const shape = { type: 'lru_hash', name: 'seen', keySize: 4, valueSize: 16 } as const;
  using map = createMap({ ...shape, maxEntries: 512 });
  using object = openObject(path);
  assert.throws(() => object.reuseMap('seen', map), { code: 'E_LAYOUT' });
});

test('a refused program is named, with the lines of the verifier that say why', { skip }, () => {
  using object = openObject(path);
  assert.throws(
    () => object.load(),
    (error) => {
      assert.ok(error instanceof KernelError);
      assert.equal(error.code, 'E_LOAD');
      assert.match(error.message, /^cannot load program broken: .*\((EACCES|EINVAL)\)$/);
      assert.match(error.detail ?? '', /outside of the packet/);
      assert.ok((error.detail ?? '').split('\n').length <= 15);
      return true;
    },
  );
});

test('a closed or missing object refuses', { skip }, () => {
  const object = openObject(path);
  object.close();
  object.close();
  assert.throws(() => object.maps(), { code: 'E_CLOSED' });
  assert.throws(() => openObject(join(directory, 'missing.o')), { errnoName: 'ENOENT' });
});
