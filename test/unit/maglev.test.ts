import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  buildTable,
  createWorkspace,
  hashBackend,
  type Member,
  packMembers,
  TABLE_SIZE,
  tableDigest,
} from '../../agent/services/maglev.ts';

const work = createWorkspace();
/** Written down once: connections stay where they are over an upgrade. */
const GOLDEN = [3, 1, 2, 2, 3, 3, 1, 2, 2, 3, 3, 1, 1, 2, 2, 2];

/** `count` backends on port 8000, ids from 1. */
function members(count: number, weight: (index: number) => number = () => 1): Member[] {
  return Array.from({ length: count }, (_, i) => ({
    id: i + 1,
    hash: hashBackend(Uint8Array.of(10, 0, i >> 8, i & 0xff), 8000, 6),
    weight: weight(i),
  }));
}

function tableOf(list: readonly Member[]): Uint32Array {
  const table = new Uint32Array(TABLE_SIZE);
  buildTable(packMembers(list), table, work);
  return table;
}

function shares(table: Uint32Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (const id of table) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

for (const count of [1, 2, 3, 10, 100, 300]) {
  test(`each of ${count} equal backends has its share within 2 %`, () => {
    const counts = shares(tableOf(members(count)));
    assert.equal(counts.size, count);
    const due = TABLE_SIZE / count;
    for (const [id, slots] of counts) {
      assert.ok(Math.abs(slots / due - 1) <= 0.02, `${id} has ${slots} of ${due}`);
    }
  });
}

test('of a thousand backends none has a slot more or less than the others', () => {
  const counts = shares(tableOf(members(1000)));
  assert.deepEqual([...new Set(counts.values())].sort(), [16, 17]);
});

test('a backend has its share of the weight within 2 %', () => {
  const weights = [1, 2, 3, 4, 10, 30];
  const counts = shares(tableOf(members(weights.length, (i) => weights[i] ?? 0)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  for (const [i, weight] of weights.entries()) {
    const due = (TABLE_SIZE * weight) / total;
    const slots = counts.get(i + 1) ?? 0;
    assert.ok(Math.abs(slots / due - 1) <= 0.02, `weight ${weight} has ${slots} of ${due}`);
  }
});

for (const count of [2, 3, 10, 50, 100, 1000]) {
  test(`of ${count} backends, one that goes moves at most 1/${count} + 1 % of the others`, () => {
    const all = members(count);
    const before = tableOf(all);
    for (const gone of all.filter((_, i) => i % Math.ceil(count / 10) === 0)) {
      const after = tableOf(all.filter((member) => member !== gone));
      let [moved, others] = [0, 0];
      for (const [slot, id] of before.entries()) {
        if (id === gone.id) continue;
        others++;
        if (after[slot] !== id) moved++;
      }
      assert.ok(moved / others <= 1 / count + 0.01, `${gone.id}: ${moved} of ${others} moved`);
    }
  });
}

test('two nodes choose the same backend whatever its id is and in whatever order they learn it', () => {
  const here = members(20, (i) => 1 + (i % 3));
  const there = here.toReversed().map((member, i) => ({ ...member, id: 500 + i }));
  const [a, b] = [tableOf(here), tableOf(there)];
  const idThere = new Map(there.map(({ id }, i) => [20 - i, id]));
  for (const [slot, id] of a.entries()) assert.equal(b[slot], idThere.get(id));
});

test('the table of a node is the one that every version builds', () => {
  const counts = tableOf(members(3)).subarray(0, 16);
  assert.deepEqual([...counts], GOLDEN);
});

test('without a backend nobody is chosen, with one always that', () => {
  assert.deepEqual([...shares(tableOf([]))], [[0, TABLE_SIZE]]);
  assert.deepEqual([...shares(tableOf(members(1)))], [[1, TABLE_SIZE]]);
});

test('the digest of a table tells its members, ids and weights apart, not their order', () => {
  const list = members(3);
  const digest = (of: Member[]) => tableDigest(packMembers(of));
  assert.equal(digest(list.toReversed()), digest(list));
  const others = [
    list.slice(1),
    list.map((member) => ({ ...member, id: member.id + 1 })),
    list.map((member) => ({ ...member, weight: 2 })),
    [],
  ].map(digest);
  assert.equal(new Set([digest(list), ...others]).size, 5);
  for (const text of [digest(list), ...others]) assert.match(text, /^[0-9a-f]{16}$/);
});
