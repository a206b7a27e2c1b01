import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PairBalance } from '../../agent/engine/pair-balance.ts';

const OFFSETS = { address: 0, port: 4 };

/** Flow `i`, kept as `port` at the node: forward and reverse half, key and value. */
function pair(i: number, port = 40_000 + (i % 20_000)) {
  const [pod, peer, node] = [0x0a000100 + (i >> 14), 0xcb007100 + (i & 255), 0xc0000201];
  const sport = 1024 + (i % 60_000);
  const forward = half([pod, peer, sport, 443, 0], [node, port]);
  const reverse = half([peer, node, 443, port, 1], [pod, sport]);
  return { forward, reverse };
}

function half(key: [number, number, number, number, number], value: [number, number]) {
  const keys = new DataView(new ArrayBuffer(16));
  keys.setUint32(0, key[0]);
  keys.setUint32(4, key[1]);
  keys.setUint16(8, key[2]);
  keys.setUint16(10, key[3]);
  keys.setUint8(12, 6);
  keys.setUint8(13, key[4]);
  const values = new DataView(new ArrayBuffer(8));
  values.setUint32(0, value[0]);
  values.setUint16(4, value[1]);
  return [keys, 0, values, 0, key[4] === 1] as const;
}

const balance = (seed: number) => new PairBalance({ capacity: 1000, keySize: 16 }, OFFSETS, seed);

test('complete pairs level each other out, in any order', () => {
  for (let seed = 0; seed < 20; seed++) {
    const pairs = balance(seed);
    const flows = Array.from({ length: 1000 }, (_, i) => pair(i));
    for (const { forward } of flows) pairs.add(...forward);
    assert.equal(pairs.isLevel, false);
    for (const { reverse } of flows.toReversed()) pairs.add(...reverse);
    assert.equal(pairs.isLevel, true);
  }
});

test('a lone half is found among a thousand pairs, and hardly any pair with it', () => {
  let others = 0;
  for (let seed = 0; seed < 50; seed++) {
    const pairs = balance(seed);
    const flows = Array.from({ length: 1000 }, (_, i) => pair(i));
    for (const { forward, reverse } of flows) {
      pairs.add(...forward);
      pairs.add(...reverse);
    }
    const lone = pair(5000 + seed)[seed % 2 ? 'forward' : 'reverse'];
    pairs.add(...lone);
    assert.ok(pairs.isOdd(...lone));
    others += flows.filter(({ forward }) => pairs.isOdd(...forward)).length;
  }
  assert.ok(others < 100, `${others} of 50,000`);
});

test('halves of two mappings of one flow are no pair', () => {
  const pairs = balance(1);
  pairs.add(...pair(7, 40_001).forward);
  pairs.add(...pair(7, 40_002).reverse);
  assert.equal(pairs.isLevel, false);
});
