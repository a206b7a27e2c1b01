import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { decode } from '../../agent/abi/codec.ts';
import { layouts } from '../../agent/abi/generated.ts';
import { objectPath } from '../../agent/engine/objects.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { openObject } from '../../agent/kernel/object.ts';
import { type Counters, readCounters } from '../../agent/tables/counters.ts';
import { run } from '../lib/command.ts';
import { encodeKey, KIND } from '../lib/tables.ts';
import { runAtWrites, WATCHPOINT } from '../lib/watchpoint.ts';
import { openRig, PEOPLE, type Rig } from './rig.ts';

/** What the kernel answers where this CPU holds the lock already: before Linux 6.15, and since. */
const REFUSALS: Record<number, string> = { [-16]: 'ebusy', [-35]: 'edeadlk' };
const TRIES = 3;
const skip = existsSync('/sys/bus/event_source/devices/breakpoint')
  ? false
  : 'this machine has no watchpoints';
const FIRST = new Uint8Array(4);

/** A key of `ct_tcp` with an entry, and programs that want to change it at once. */
interface Contended extends Disposable {
  /** What `table_insert` answered in the middle of somebody's update or deletion of the key. */
  insertDuring(act: 'update' | 'delete'): Promise<number>;
  /** And with nobody there. */
  insert(): number;
  /** When the entry expires, by which one tells whose it is: 1 of the insertion, 7 of the update. */
  expires(): number | undefined;
  counters(): Counters;
}

async function contend(rig: Rig): Promise<Contended> {
  using stack = new DisposableStack();
  const pinned = (name: string) => {
    const map = openPinnedMap(join(rig.bpffs, rig.family, name));
    assert.ok(map, name);
    return stack.use(map);
  };
  const object = stack.use(openObject(objectPath(`test-${rig.family}-held-bucket.bpf.o`)));
  for (const name of object.maps()) {
    if (name !== 'attempts' && !name.includes('.')) object.reuseMap(name, pinned(name));
  }
  object.load();
  const pin = join(rig.bpffs, 'insert_under_lock');
  stack.use(object.program('insert_under_lock')).pin(pin);
  const attempts = stack.use(object.map('attempts'));
  const [table, counters] = [pinned('ct_tcp'), pinned('counters')];

  const { A: src, B: dst } = PEOPLE[rig.family];
  const flow = { src, dst, sport: 40_000, dport: 443, protocol: 6, kind: KIND.OUT };
  const key = encodeKey(flow);
  const offsets = { armed: key.length, result: key.length + 4, links: key.length + 8 };
  const look = () => new DataView((attempts.lookup(FIRST) ?? assert.fail()).buffer);
  const act = (name: string, armed: boolean) => {
    const attempt = new Uint8Array(attempts.valueSize);
    attempt.set(key);
    new DataView(attempt.buffer).setUint32(offsets.armed, Number(armed), true);
    attempts.update(FIRST, attempt);
    using program = object.program(name);
    assert.equal(program.run(new Uint8Array(8)), 0, name);
    return look();
  };
  const insert = () => act('insert', false).getInt32(offsets.result, true);
  assert.equal(insert(), 0);
  const owned = stack.move();
  return {
    insert,
    async insertDuring(name) {
      const links = act('locate', false).getBigUint64(offsets.links, true);
      await using _ = await runAtWrites(pin, links);
      const seen = act(name, true);
      assert.equal(seen.getUint32(offsets.armed, true), 0, 'nothing was tried');
      return seen.getInt32(offsets.result, true);
    },
    expires() {
      const value = table.lookup(key);
      return value && decode(layouts[rig.family].ct_entry, value).expires;
    },
    counters: () => readCounters(counters),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

for (const family of ['ipv4', 'ipv6'] as const) {
  describe(`while somebody else holds the bucket, ${family}`, { skip }, () => {
    before(async () => {
      const object = `build/bpf/test-${family}-held-bucket.bpf.o`;
      await run(['make', '--no-print-directory', object, WATCHPOINT]);
    });

    test('an insertion is tried three times, each refusal counted by its errno', async () => {
      await using rig = await openRig(family);
      using contended = await contend(rig);
      const errno = REFUSALS[await contended.insertDuring('update')];
      const { updateErrors, created } = contended.counters();
      const counted = Object.entries(updateErrors.ct_tcp).filter(([, count]) => count > 0);
      assert.deepEqual(counted, [[errno, TRIES]]);
      assert.equal(created.ct_tcp, 1);
    });

    test('nobody is disturbed by it, and once the bucket is free, so is the way', async () => {
      await using rig = await openRig(family);
      using contended = await contend(rig);
      assert.ok((await contended.insertDuring('update')) in REFUSALS);
      assert.equal(contended.expires(), 7);
      assert.ok((await contended.insertDuring('delete')) in REFUSALS);
      assert.equal(contended.expires(), undefined);
      assert.equal(contended.insert(), 0);
      assert.equal(contended.expires(), 1);
      assert.equal(contended.counters().created.ct_tcp, 2);
    });
  });
}
