import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { objectPath } from '../../agent/engine/objects.ts';
import { createTable } from '../../agent/engine/resize.ts';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { type BpfObject, openObject } from '../../agent/kernel/object.ts';
import { readCounters } from '../../agent/tables/counters.ts';
import { CURRENT, PREVIOUS } from '../../agent/tables/slots.ts';
import { run } from '../lib/command.ts';
import { encodeKey, KIND } from '../lib/tables.ts';
import { until } from '../lib/wait.ts';
import { openRig, PEOPLE, type Rig } from './rig.ts';

const EEXIST = -17;
/** Ports, by which entries are told apart. */
const [EARLY, LATE] = [1, 2];
type Operation = 'insert' | 'lookup' | 'remove' | 'settled';

/** A NAT table whose slots are switched at moments of the test's choice. */
interface Switched extends Disposable {
  /** At {old, old}, without an entry. */
  begin(): void;
  /** {old, -}, {old, old}, {new, old}, {new, -}. */
  step(number: 0 | 1 | 2 | 3): void;
  act(operation: Operation, port?: number): number;
  /**
   * An operation that begins at {old, old} and stands still before its first change to a map, or
   * after it; meanwhile the table is at {new, old} and `others` act. Its result.
   */
  during(
    operation: Operation,
    where: 'before' | 'after',
    others: () => void,
    port?: number,
  ): Promise<number>;
  /** The same at {new, old}, with nothing switched. */
  while(operation: Operation, others: () => void): Promise<number>;
  /** Ports of the entries that old and new map have. */
  ports(): [number | undefined, number | undefined];
  /** Entries counted as created since it began. */
  created(): number;
}

async function openSwitched(rig: Rig): Promise<Switched> {
  using stack = new DisposableStack();
  const pinned = (name: string) => {
    const map = openPinnedMap(join(rig.bpffs, rig.family, name));
    assert.ok(map, name);
    return stack.use(map);
  };
  const load = (gated: boolean, gate?: BpfMap): BpfObject => {
    const object = stack.use(openObject(objectPath(`test-${rig.family}-switched.bpf.o`)));
    for (const name of object.maps()) {
      if (name === 'gate') gate && object.reuseMap(name, gate);
      else if (!name.includes('.')) object.reuseMap(name, pinned(name));
    }
    const rodata = object.rodata();
    object.setRodata(rodata.fill(Number(gated), rodata.length - 1));
    object.load();
    return object;
  };
  const plain = load(false);
  const gate = stack.use(plain.map('gate'));
  const paused = load(true, gate);
  const [outer, old, counters] = [pinned('snat_maps'), pinned('snat'), pinned('counters')];
  const { keySize } = old;
  const fresh = stack.use(await createTable(rig.family, 'snat', 1024));
  const freshPin = join(rig.bpffs, 'fresh');
  fresh.pin(freshPin);

  const { A: src, B: dst } = PEOPLE[rig.family];
  const key = encodeKey({ src, dst, sport: 443, dport: 40_000, protocol: 6, kind: KIND.IN });
  const context = (port: number) => {
    const bytes = new Uint8Array(keySize + 4);
    bytes.set(key);
    new DataView(bytes.buffer).setUint16(keySize, port, true);
    return bytes;
  };
  const resultOf = (bytes: Uint8Array) => new DataView(bytes.buffer).getInt16(keySize + 2, true);
  const window = new Int32Array(gate.mmap().buffer, gate.mmap().byteOffset, 4);

  async function pausedRun(
    operation: Operation,
    at: number,
    others: () => Promise<void> | void,
    port: number,
  ): Promise<number> {
    window.set([at, 0, 0, 0]);
    using program = paused.program(operation);
    const bytes = context(port);
    const running = program.runAsync(bytes);
    await until('it to stand still', () => window[2] === 1, { every: 1 });
    await others();
    window[3] = 1;
    assert.equal(await running, 0);
    return resultOf(bytes);
  }

  const owned = stack.move();
  const portIn = (map: BpfMap) => {
    const value = map.lookup(key);
    return value && new DataView(value.buffer).getUint16(rig.family === 'ipv4' ? 4 : 16, true);
  };
  const step = (number: 0 | 1 | 2 | 3) => {
    outer.updateFd(CURRENT, number < 2 ? old : fresh);
    if (number === 1 || number === 2) outer.updateFd(PREVIOUS, old);
    else outer.delete(PREVIOUS);
  };
  const createdSoFar = () => Number(readCounters(counters).created.snat);
  let before = 0;
  return {
    begin() {
      step(1);
      for (const map of [old, fresh]) map.delete(key);
      before = createdSoFar();
    },
    step,
    act(operation, port = LATE) {
      using program = plain.program(operation);
      const bytes = context(port);
      assert.equal(program.run(bytes), 0);
      return resultOf(bytes);
    },
    during: (operation, where, others, port = EARLY) =>
      pausedRun(
        operation,
        where === 'before' ? 1 : 2,
        async () => {
          const switched = switchSlot(join(rig.bpffs, rig.family, 'snat_maps'), freshPin);
          await until('the switch', () => outer.lookupId(CURRENT) === fresh.id, { every: 1 });
          others();
          window[3] = 1;
          await switched;
        },
        port,
      ),
    while: (operation, others) => pausedRun(operation, 1, others, EARLY),
    ports: () => [portIn(old), portIn(fresh)],
    created: () => createdSoFar() - before,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** From another thread: it waits for programs that are under way. */
function switchSlot(outer: string, inner: string): Promise<void> {
  const kernel = new URL('../../agent/kernel/map.ts', import.meta.url).href;
  const source = `
    import { workerData } from 'node:worker_threads';
    import { openPinnedMap } from ${JSON.stringify(kernel)};
    openPinnedMap(workerData.outer).updateFd(new Uint8Array(4), openPinnedMap(workerData.inner));
  `;
  const url = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
  return new Promise((resolve, reject) => {
    const worker = new Worker(url, { workerData: { outer, inner } });
    worker.once('exit', () => resolve());
    worker.once('error', reject);
  });
}

for (const family of ['ipv4', 'ipv6'] as const) {
  describe(`while the slots of a table are switched, ${family}`, () => {
    let rig: Rig;
    let table: Switched;

    before(async () => {
      await run(['make', '--no-print-directory', `build/bpf/test-${family}-switched.bpf.o`]);
      rig = await openRig(family);
      table = await openSwitched(rig);
    });
    after(async () => {
      table?.[Symbol.dispose]();
      await rig?.[Symbol.asyncDispose]();
    });
    beforeEach(() => table.begin());

    test('who comes too late with the old map gives way to who has the new one', async () => {
      const results: number[] = [];
      results.push(await table.during('insert', 'before', () => results.push(table.act('insert'))));
      assert.deepEqual(results, [0, EEXIST]);
      assert.deepEqual(table.ports(), [undefined, LATE]);
      assert.equal(table.created(), 1);
    });

    test('who was in the old map in time keeps what he has, in both', async () => {
      const results: number[] = [];
      results.push(await table.during('insert', 'after', () => results.push(table.act('insert'))));
      assert.deepEqual(results, [EEXIST, 0]);
      assert.deepEqual(table.ports(), [EARLY, EARLY]);
      assert.equal(table.created(), 1);
      assert.equal(table.act('lookup'), EARLY);
    });

    test('an entry that is deleted does not come back with its promotion', async () => {
      assert.equal(table.act('insert'), 0);
      table.step(2);
      const found = await table.while('lookup', () => assert.equal(table.act('remove'), 1));
      assert.equal(found, 0);
      assert.deepEqual(table.ports(), [undefined, undefined]);
    });

    test('a deletion that began with the old map takes what is promoted meanwhile, too', async () => {
      assert.equal(table.act('insert'), 0);
      const deleted = await table.during('remove', 'before', () =>
        assert.equal(table.act('lookup'), LATE),
      );
      assert.equal(deleted, 1);
      assert.deepEqual(table.ports(), [undefined, undefined]);
    });

    test('an entry is taken over only where every CPU looks', async () => {
      assert.equal(table.act('settled'), -1);
      assert.equal(table.act('insert'), 0);
      const answers = ([0, 1, 2, 3] as const).map((number) => {
        table.step(number);
        return table.act('settled');
      });
      assert.deepEqual(answers, [1, 0, 1, 1]);
    });
  });
}
