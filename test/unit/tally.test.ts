import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Tally } from '../../agent/cli/tally.ts';

test('a tally counts every key exactly, however many there are', () => {
  const tally = new Tally(3);
  const expected = new Map<string, number>();
  for (let i = 0; i < 60_000; i++) {
    /* Keys that differ in one word only, in either half of it. */
    const key = [(i * i) % 7_919, (i % 11) << 16, 443];
    tally.add(Uint32Array.from(key));
    expected.set(key.join(), (expected.get(key.join()) ?? 0) + 1);
  }
  assert.equal(tally.size, expected.size);
  for (let i = 0; i < tally.size; i++) {
    assert.equal(tally.count(i), expected.get(tally.key(i).join()));
  }
});

test('keys are numbered as they arrive, and keep their numbers', () => {
  const tally = new Tally(1);
  const numbers = [7, 0, 7, 0xffffffff].map((word) => tally.add(Uint32Array.of(word)));
  assert.deepEqual(numbers, [0, 1, 0, 2]);
  for (let word = 1000; word < 10_000; word++) tally.add(Uint32Array.of(word));
  assert.equal(tally.add(Uint32Array.of(0xffffffff)), 2);
  assert.equal(tally.count(2), 2);
});
