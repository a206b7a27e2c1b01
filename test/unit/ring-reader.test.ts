import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { takeRecords } from '../../agent/kernel/ring-reader.ts';

const SIZE = 64;
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;

let memory: { consumer: Uint8Array; producer: Uint8Array; data: Uint8Array };
let written: number;

/** A ring as the kernel maps it: each byte of its data stands there twice. */
beforeEach(() => {
  memory = {
    consumer: new Uint8Array(8),
    producer: new Uint8Array(8),
    data: new Uint8Array(2 * SIZE),
  };
  written = 0;
});

function put(text: string, flags = 0): number {
  const bytes = new Uint8Array((8 + text.length + 7) & ~7);
  new DataView(bytes.buffer).setUint32(0, (text.length | flags) >>> 0, true);
  bytes.set(Buffer.from(text), 8);
  const at = written;
  for (const [i, byte] of bytes.entries()) {
    const place = (written + i) % SIZE;
    memory.data[place] = byte;
    memory.data[place + SIZE] = byte;
  }
  written += bytes.length;
  new DataView(memory.producer.buffer).setBigUint64(0, BigInt(written), true);
  return at;
}

const take = () => [...takeRecords(memory)].map((bytes) => Buffer.from(bytes).toString());
const taken = () => Number(new DataView(memory.consumer.buffer).getBigUint64(0, true));

test('records are taken once, oldest first, whatever their length', () => {
  for (const text of ['a', '', 'twelve bytes']) put(text);
  assert.deepEqual(take(), ['a', '', 'twelve bytes']);
  assert.equal(taken(), written);
  assert.deepEqual(take(), []);
});

test('a record that reaches past the end goes on at the start', () => {
  put('x'.repeat(40));
  take();
  put('y'.repeat(30));
  assert.ok(written > SIZE);
  assert.deepEqual(take(), ['y'.repeat(30)]);
});

test('one that is still being written holds up those behind it', () => {
  put('first');
  const at = put('second', BUSY);
  put('third');
  assert.deepEqual(take(), ['first']);
  assert.equal(taken(), at);
  memory.data[at + 3] = 0;
  assert.deepEqual(take(), ['second', 'third']);
});

test('what was taken back is passed over', () => {
  put('gone', DISCARDED);
  put('here');
  put('gone too', DISCARDED);
  assert.deepEqual(take(), ['here']);
  assert.equal(taken(), written);
});

test('a record is out of the buffer before anybody reads it, and shares nothing with it', () => {
  put('one');
  put('two');
  for (const record of takeRecords(memory)) {
    memory.data.fill(0);
    assert.equal(Buffer.from(record).toString(), 'one');
    break;
  }
  assert.equal(taken(), 16);
});

test('what is added meanwhile is for the next time', () => {
  put('one');
  const records = takeRecords(memory);
  assert.equal(records.next().done, false);
  put('two');
  assert.equal(records.next().done, true);
  assert.deepEqual(take(), ['two']);
});
