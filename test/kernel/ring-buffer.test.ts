import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { objectPath } from '../../agent/engine/objects.ts';
import { type BpfMap, createMap } from '../../agent/kernel/map.ts';
import { openObject } from '../../agent/kernel/object.ts';
import { RingBuffer } from '../../agent/kernel/ring-buffer.ts';
import { RingWait } from '../../agent/kernel/ring-wait.ts';
import { skipReason } from './sandbox.ts';

const OBJECT = 'test-ipv4-ring.bpf.o';
const SIZE = 4096;

interface Order {
  first?: number;
  count: number;
  /** 32-bit words in each record. */
  words: number;
  discard?: boolean;
}

/** A ring buffer and a program that writes to it; `fill` tells how many records did not fit. */
interface Writer extends Disposable {
  map: BpfMap;
  fill(order: Order): number;
}

function openWriter(): Writer {
  using stack = new DisposableStack();
  const object = stack.use(openObject(objectPath(OBJECT)));
  object.load();
  const map = stack.use(object.map('ring'));
  const program = stack.use(object.program('fill'));
  const owned = stack.move();
  return {
    map,
    fill({ first = 0, count, words, discard = false }) {
      const order = Uint32Array.of(first, count, words, Number(discard), 0);
      assert.equal(program.run(new Uint8Array(order.buffer)), 0);
      return order[4] ?? 0;
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** Numbers of the records that are there; every word of a record must say the same. */
function numbers(ring: RingBuffer, words: number): number[] {
  return Array.from(ring.take(), (record) => {
    const said = new Uint32Array(record.buffer);
    assert.equal(said.length, words);
    assert.ok(said.every((word) => word === said[0]));
    return said[0] ?? -1;
  });
}

const range = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
const openFds = () => readdirSync('/proc/self/fd').length;
const ringMappings = () =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('bpf-map')).length;

describe('a ring buffer of the kernel', { skip: skipReason }, () => {
  before(() => {
    const root = join(import.meta.dirname, '../..');
    execFileSync('make', ['-s', `build/bpf/${OBJECT}`], { cwd: root, stdio: 'pipe' });
  });

  test('gives every record once, in its order, over many times its size', () => {
    using writer = openWriter();
    using ring = new RingBuffer(writer.map);
    for (let [round, first] = [0, 0]; round < 600; round++) {
      const [count, words] = [1 + (round % 7), 1 + (round % 40)];
      const lost = writer.fill({ first, count, words, discard: round % 3 === 0 });
      assert.equal(lost, 0);
      assert.deepEqual(numbers(ring, words), range(first, count));
      first += count;
    }
  });

  test('takes up to 512 bytes across its end', () => {
    using writer = openWriter();
    using ring = new RingBuffer(writer.map);
    for (let first = 0; first < 40; first++) {
      writer.fill({ first, count: 1, words: 128 });
      assert.deepEqual(numbers(ring, 128), [first]);
    }
  });

  test('loses what does not fit, and nothing else', () => {
    using writer = openWriter();
    using ring = new RingBuffer(writer.map);
    const fits = SIZE / 16;
    const lost = writer.fill({ count: fits + 100, words: 2 });
    assert.ok(lost >= 100 && lost <= 101, `${lost}`);
    const there = numbers(ring, 2);
    assert.deepEqual(there, range(0, fits + 100 - lost));
    assert.equal(writer.fill({ first: 7, count: 1, words: 2 }), 0);
    assert.deepEqual(numbers(ring, 2), [7]);
  });

  test('the next reader goes on where the last one stopped', () => {
    using writer = openWriter();
    writer.fill({ count: 3, words: 2 });
    {
      using ring = new RingBuffer(writer.map);
      for (const _ of ring.take()) break;
    }
    using ring = new RingBuffer(writer.map);
    assert.deepEqual(numbers(ring, 2), [1, 2]);
  });

  test('outlives the map it was made of, and is of no use once it is closed', () => {
    using writer = openWriter();
    const ring = new RingBuffer(writer.map);
    writer.fill({ count: 2, words: 1 });
    writer.map.close();
    const records = ring.take();
    assert.equal(records.next().done, false);
    ring.close();
    ring.close();
    assert.throws(() => records.next(), { code: 'E_CLOSED' });
    assert.throws(() => ring.take(), { code: 'E_CLOSED' });
  });

  test('is told from another map', () => {
    using map = createMap({ type: 'array', name: 'none', keySize: 4, valueSize: 4, maxEntries: 1 });
    assert.throws(() => new RingBuffer(map), TypeError);
  });

  test('leaves nothing behind, however often it is opened', () => {
    using writer = openWriter();
    const once = () => {
      using ring = new RingBuffer(writer.map);
      using _wait = new RingWait([ring]);
      return ringMappings();
    };
    assert.equal(once(), 2);
    const [fds, mappings] = [openFds(), ringMappings()];
    const listeners = process.listenerCount('exit');
    for (let i = 0; i < 1000; i++) once();
    assert.deepEqual([openFds(), ringMappings()], [fds, mappings]);
    assert.equal(process.listenerCount('exit'), listeners);
  });
});

describe('a wait for records', { skip: skipReason }, () => {
  test('ends when either of two buffers has some, and the event loop goes on meanwhile', async () => {
    using one = openWriter();
    using other = openWriter();
    using rings = new DisposableStack();
    const [left, right] = [
      rings.use(new RingBuffer(one.map)),
      rings.use(new RingBuffer(other.map)),
    ];
    using wait = new RingWait([left, right]);
    for (let first = 0; first < 50; first++) {
      const waiting = wait.wait();
      await new Promise(setImmediate);
      (first % 2 ? one : other).fill({ first, count: 1, words: 2 });
      assert.equal(await waiting, true);
      assert.deepEqual(numbers(first % 2 ? left : right, 2), [first]);
    }
    const both = wait.wait();
    one.fill({ count: 1, words: 2 });
    other.fill({ count: 1, words: 2 });
    assert.equal(await both, true);
    assert.deepEqual([numbers(left, 2), numbers(right, 2)], [[0], [0]]);
  });

  test('does not wait for what is there already', async () => {
    using writer = openWriter();
    using ring = new RingBuffer(writer.map);
    writer.fill({ count: 2, words: 2 });
    using wait = new RingWait([ring]);
    assert.equal(await wait.wait(), true);
    for (const _ of ring.take()) break;
    assert.equal(await wait.wait(), true);
    assert.deepEqual(numbers(ring, 2), [1]);
  });

  test('ends when it is closed, and says so', async () => {
    using writer = openWriter();
    using ring = new RingBuffer(writer.map);
    const fds = openFds();
    const wait = new RingWait([ring]);
    const waiting = wait.wait();
    await new Promise(setImmediate);
    wait.close();
    wait.close();
    assert.equal(await waiting, false);
    await assert.rejects(wait.wait(), { code: 'E_CLOSED' });
    assert.equal(openFds(), fds);
  });

  test('does not keep the process from ending', () => {
    const program = `
      import { createMap } from './agent/kernel/map.ts';
      import { RingBuffer } from './agent/kernel/ring-buffer.ts';
      import { RingWait } from './agent/kernel/ring-wait.ts';
      const shape = { keySize: 0, valueSize: 0, maxEntries: 4096 };
      const wait = new RingWait([new RingBuffer(createMap({ type: 'ringbuf', name: 'r', ...shape }))]);
      wait.wait();
      setTimeout(() => process.exit(7), 50);`;
    const { status, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '--eval', program],
      { cwd: join(import.meta.dirname, '../..'), timeout: 30_000, encoding: 'utf8' },
    );
    assert.equal(status, 7, stderr);
  });
});
