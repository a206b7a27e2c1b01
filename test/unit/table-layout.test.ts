import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Field } from '../../agent/abi/layout.ts';
import {
  carryValues,
  planTable,
  type Shape,
  tableLayout,
} from '../../agent/engine/table-layout.ts';

const KEY: Shape = { size: 4, fields: {} };
const EXPIRES: Field = { offset: 0, size: 4, kind: 'u32' };
const FLAGS: Field = { offset: 4, size: 2, kind: 'u16' };
const BEFORE: Shape = { size: 8, fields: { expires: EXPIRES, flags: FLAGS } };
const SIZES = { keySize: 4, valueSize: 8, maxEntries: 16 };

function plan(name: string, before: Shape | undefined, after: Shape, key: Shape = KEY) {
  const known = before && { key: KEY, value: before };
  return planTable(name, SIZES, known, { key, value: after });
}

test('a table with the same layout goes on', () => {
  assert.deepEqual(plan('ct_tcp', BEFORE, structuredClone(BEFORE)), { kind: 'adopt' });
});

test('a table that no record describes goes on when its sizes are right, and only then', () => {
  assert.deepEqual(plan('ct_tcp', undefined, BEFORE), { kind: 'adopt' });
  const larger = { ...BEFORE, size: 12 };
  assert.deepEqual(plan('ct_tcp', undefined, larger), {
    kind: 'refuse',
    reason: 'its layout is not known',
  });
});

test('fields move to their new places, new ones are zero', () => {
  const fields = {
    flags: { ...FLAGS, offset: 0 },
    created: { offset: 4, size: 4, kind: 'u32' as const },
    expires: { ...EXPIRES, offset: 8 },
  };
  const moves = plan('snat', BEFORE, { size: 12, fields });
  assert.equal(moves.kind, 'carry');
  if (moves.kind !== 'carry') return;
  assert.deepEqual(moves.lost, []);
  const values = Uint8Array.of(1, 2, 3, 4, 5, 6, 0xff, 0xff, 11, 12, 13, 14, 15, 16, 0xff, 0xff);
  const carried = carryValues(values, 2, { before: 8, after: 12 }, moves.runs);
  assert.deepEqual(
    [...carried],
    [5, 6, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 15, 16, 0, 0, 0, 0, 0, 0, 11, 12, 13, 14],
  );
});

test('neighbours move in one piece', () => {
  const fields = { expires: { ...EXPIRES, offset: 4 }, flags: { ...FLAGS, offset: 8 } };
  assert.deepEqual(plan('snat', BEFORE, { size: 12, fields }), {
    kind: 'carry',
    runs: [{ from: 0, to: 4, size: 6 }],
    lost: [],
  });
});

test('the same size with other fields is another layout', () => {
  const fields = { expires: EXPIRES, zone: FLAGS };
  assert.deepEqual(plan('ct_any', BEFORE, { size: 8, fields }), {
    kind: 'refuse',
    reason: 'flags would be lost',
  });
});

test('a field of another width or kind would be lost', () => {
  for (const flags of [
    { ...FLAGS, size: 4, kind: 'u32' as const },
    { ...FLAGS, kind: 'be16' as const },
  ]) {
    const after = { size: 8, fields: { expires: EXPIRES, flags } };
    assert.deepEqual(plan('ct_any', BEFORE, after), {
      kind: 'refuse',
      reason: 'flags would be lost',
    });
  }
});

test('connections under other keys are refused', () => {
  const key = { size: 8, fields: {} };
  assert.deepEqual(plan('ct_tcp', BEFORE, BEFORE, key), {
    kind: 'refuse',
    reason: 'its keys differ',
  });
});

test('endpoints may lose what is written again, but not whose they are', () => {
  const index: Field = { offset: 0, size: 4, kind: 'u32' };
  const rows: Shape = { size: 8, fields: { ifindex: index, mtu: FLAGS } };
  assert.deepEqual(plan('endpoints', rows, { size: 4, fields: { ifindex: index } }), {
    kind: 'carry',
    runs: [{ from: 0, to: 0, size: 4 }],
    lost: ['mtu'],
  });
  assert.deepEqual(plan('endpoints', rows, { size: 2, fields: { mtu: { ...FLAGS, offset: 0 } } }), {
    kind: 'refuse',
    reason: 'ifindex would be lost',
  });
});

test('what the reconciler fills before anybody reads it, and caches, are made anew', () => {
  for (const name of ['prefixes', 'devices', 'nat_full']) {
    assert.deepEqual(plan(name, BEFORE, { size: 4, fields: {} }), { kind: 'anew' });
    assert.deepEqual(plan(name, undefined, { size: 4, fields: {} }), { kind: 'anew' });
  }
});

test('counters of a name move when there are as many of them', () => {
  const counters = (...blocks: [name: string, count: number][]): Shape => {
    let offset = 0;
    const fields: Record<string, Field> = {};
    for (const [name, count] of blocks) {
      fields[name] = { offset, size: count * 8, kind: 'u64', count };
      offset += count * 8;
    }
    return { size: offset, fields };
  };
  const before = counters(['PACKETS', 2], ['DROPS', 3], ['CREATED', 1]);
  const after = counters(['PACKETS', 2], ['DROPS', 4], ['CREATED', 1]);
  assert.deepEqual(plan('counters', before, after), {
    kind: 'carry',
    runs: [
      { from: 0, to: 0, size: 16 },
      { from: 40, to: 48, size: 8 },
    ],
    lost: ['DROPS'],
  });
  assert.deepEqual(plan('counters', undefined, after), { kind: 'anew' });
});

test('this version knows the counters by the bases of their enum, without a gap', () => {
  const { value } = tableLayout('ipv4', 'counters');
  const blocks = Object.values(value.fields).sort((a, b) => a.offset - b.offset);
  assert.equal(blocks[0]?.offset, 0);
  assert.equal(
    blocks.reduce((end, { offset, size }) => (offset === end ? offset + size : Number.NaN), 0),
    value.size,
  );
  assert.equal(value.fields.COUNTER_DROPS?.offset, 16 * 8);
});
