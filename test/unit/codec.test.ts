import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode, encodeInto } from '../../agent/abi/codec.ts';
import type { Layout } from '../../agent/abi/layout.ts';

interface Sample {
  small: number;
  port: number;
  word: number;
  addr: Uint8Array;
  wide: bigint;
  delta: bigint;
  pair: number[];
}

const layout: Layout<Sample> = {
  size: 40,
  fields: {
    small: { offset: 0, size: 1, kind: 'u8' },
    port: { offset: 2, size: 2, kind: 'be16' },
    word: { offset: 4, size: 4, kind: 'u32' },
    addr: { offset: 8, size: 4, kind: 'bytes' },
    wide: { offset: 16, size: 8, kind: 'u64' },
    delta: { offset: 24, size: 8, kind: 's64' },
    pair: { offset: 32, size: 8, kind: 'u32', count: 2 },
  },
};

const sample: Sample = {
  small: 255,
  port: 443,
  word: 0xfedcba98,
  addr: Uint8Array.of(10, 0, 1, 10),
  wide: 2n ** 64n - 1n,
  delta: -5n,
  pair: [1, 0xffffffff],
};

test('a struct is laid out byte by byte as the kernel has it', () => {
  assert.equal(
    Buffer.from(encode(layout, sample)).toString('hex'),
    'ff0001bb98badcfe0a00010a00000000fffffffffffffffffbffffffffffffff01000000ffffffff',
  );
});

test('decoding undoes encoding, at any offset', () => {
  const bytes = new Uint8Array(100);
  encodeInto(layout, sample, bytes, 50);
  assert.deepEqual(decode(layout, bytes, 50), sample);
  assert.deepEqual(decode(layout, bytes.subarray(50)), sample);
});

test('decoded bytes are a copy', () => {
  const bytes = encode(layout, sample);
  const { addr } = decode(layout, bytes);
  bytes.fill(0);
  assert.deepEqual(addr, sample.addr);
});

test('fields that are not given are zero in a new struct and kept in an old one', () => {
  const bytes = encode(layout, { small: 1 });
  assert.deepEqual([...bytes], [1, ...new Array(39).fill(0)]);
  encodeInto(layout, { port: 1 }, bytes);
  assert.equal(decode(layout, bytes).small, 1);
});

test('what does not fit a field is refused, not cut', () => {
  const wrong: Array<Partial<Sample>> = [
    { small: 256 },
    { small: -1 },
    { port: 65_536 },
    { word: 1.5 },
    { word: Number.NaN },
    { wide: 2n ** 64n },
    { delta: 2n ** 63n },
    { addr: new Uint8Array(16) },
    { pair: [1] },
    { pair: [1, -1] },
    { small: 1n as never },
    { wide: 1 as never },
  ];
  for (const value of wrong) assert.throws(() => encode(layout, value), RangeError);
});
