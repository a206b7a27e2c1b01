import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as abi from '../../agent/abi/generated.ts';

const header = readFileSync(join(import.meta.dirname, '../../bpf/abi.h'), 'utf8');
const declared = (keyword: string) =>
  [...header.matchAll(new RegExp(`^${keyword} (\\w+) \\{`, 'gm'))].map(([, name]) => name).sort();

test('every struct and enum of the contract is known to TypeScript', () => {
  const { layouts, ...enums } = abi;
  assert.deepEqual(Object.keys(layouts.ipv4).sort(), declared('struct'));
  assert.deepEqual(Object.keys(layouts.ipv6).sort(), declared('struct'));
  assert.deepEqual(Object.keys(enums).sort(), declared('enum'));
});

test('keys of the connection tables have their published layout', () => {
  const places = (family: 'ipv4' | 'ipv6') =>
    Object.values(abi.layouts[family].tuple.fields).map(({ offset }) => offset);
  assert.equal(abi.layouts.ipv4.tuple.size, 16);
  assert.deepEqual(places('ipv4'), [0, 4, 8, 10, 12, 13]);
  assert.equal(abi.layouts.ipv6.tuple.size, 40);
  assert.deepEqual(places('ipv6'), [0, 16, 32, 34, 36, 37]);
});

test('kinds and flag bits have their published numbers', () => {
  assert.deepEqual(abi.kind, { KIND_OUT: 0, KIND_IN: 1, KIND_RELATED: 2, KIND_SVC: 4 });
  assert.deepEqual(
    Object.values(abi.ct_flag),
    [0x1, 0x2, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x400],
  );
});
