import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { flow_class } from '../../agent/abi/generated.ts';
import type { CollectedTable } from '../../agent/engine/pass.ts';
import { createFill, createRelief } from '../../agent/engine/relief-turns.ts';
import type { ReliefResult } from '../../agent/engine/relieve.ts';
import type { Batch } from '../../agent/engine/walk.ts';
import type { ConnectionTable } from '../../agent/tables/names.ts';

const { FLOW_CLOSING, FLOW_HALF_OPEN, FLOW_ESTABLISHED } = flow_class;
const CAPACITY = 1000;
const NOW = 100;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** A table of entries that are nothing but a class, which the reaper of `openRelief` empties. */
function fakeTable(name: ConnectionTable) {
  const entries: number[] = [];
  const seen = { created: 0, deleted: 0, surveys: 0, looks: 0 };
  async function* batches(): AsyncGenerator<Batch> {
    seen.surveys++;
    const count = entries.length;
    const words = entries.flatMap((known) => [NOW + 60, known]);
    yield { keys: new Uint8Array(16 * count), values: bytesOf(words), count };
  }
  const table: CollectedTable = {
    ...{ family: 'ipv4', table: name, capacity: CAPACITY, keySize: 16, valueSize: 8 },
    ...{
      expiresOffset: 0,
      mapping: { address: 0, port: 0 },
      classes: ['closing', 'half_open', 'unanswered', 'answered'],
    },
    classOf: (_keys, _key, values, value) => values.getUint32(value + 4, true),
    lookupBatch: batches,
  };
  return {
    seen,
    table,
    add(count: number, known: number) {
      for (let i = 0; i < count; i++) entries.push(known);
      seen.created += count;
    },
    take(count: number, known: number): number {
      let gone = 0;
      while (gone < count && entries.includes(known)) {
        entries.splice(entries.indexOf(known), 1);
        gone++;
      }
      seen.deleted += gone;
      return gone;
    },
  };
}

function bytesOf(words: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}

/** Relief over two tables, at a clock of milliseconds that the test moves. */
function openRelief(t: TestContext) {
  const tables = { ct_tcp: fakeTable('ct_tcp'), ct_any: fakeTable('ct_any') };
  const of = (name: ConnectionTable) => tables[name as keyof typeof tables];
  const clock = { time: 0 };
  const reliefs: ReliefResult[] = [];
  const tools: Parameters<typeof createRelief>[0]['tools'] = {
    async reap(_family, name, _keys, count, { classes = 0 } = {}) {
      if (classes === 0) of(name).seen.looks++;
      const deleted = classes === 0 ? 0 : of(name).take(count, Math.log2(classes));
      return { deleted, skipped: 0, natDeleted: 0, failed: 0, completed: 0, now: NOW };
    },
    now: () => NOW,
    turnover: (_family, name) => of(name).seen,
    lifetimes: () => ({ tcpSyn: 60, any: 60 }),
  };
  const relief = createRelief({
    ...{ tables: () => [tables.ct_tcp.table, tables.ct_any.table], fill: createFill(tools), tools },
    ...{ logger: SILENT, onRelief: (result) => reliefs.push(result), clock: () => clock.time },
  });
  t.after(() => relief.stop());
  const ask = () => {
    relief.ask('ipv4');
    return relief.exclusive(async () => {});
  };
  return { ...tables, clock, reliefs, ask };
}

test('a table that relief could not bring down rests, though something went', async (t) => {
  const { ct_tcp: tcp, reliefs, ask } = openRelief(t);
  tcp.add(900, FLOW_ESTABLISHED);
  for (let i = 0; i < 10; i++) {
    tcp.add(1, FLOW_CLOSING);
    await ask();
  }
  assert.deepEqual(
    reliefs.map(({ deleted }) => deleted),
    [{ closing: 1 }],
  );
});

test('a table that relief has brought down does not rest', async (t) => {
  const { ct_tcp: tcp, reliefs, ask } = openRelief(t);
  tcp.add(600, FLOW_ESTABLISHED);
  for (let i = 0; i < 3; i++) {
    tcp.add(240, FLOW_CLOSING);
    await ask();
  }
  assert.deepEqual(
    reliefs.map(({ deleted }) => deleted),
    [{ closing: 140 }, { closing: 240 }, { closing: 240 }],
  );
});

test('a rest is over after its time, and at once when an eighth of the table has come', async (t) => {
  const { ct_tcp: tcp, clock, reliefs, ask } = openRelief(t);
  tcp.add(810, FLOW_ESTABLISHED);
  await ask();
  tcp.add(124, FLOW_CLOSING);
  await ask();
  assert.equal(reliefs.length, 1);
  tcp.add(1, FLOW_CLOSING);
  await ask();
  assert.deepEqual(reliefs[1]?.deleted, { closing: 125 });
  await ask();
  assert.equal(reliefs.length, 2);
  clock.time += 60_000;
  await ask();
  assert.equal(reliefs.length, 3);
});

test('while one table rests, others are relieved', async (t) => {
  const { ct_tcp: tcp, ct_any: any, reliefs, ask } = openRelief(t);
  tcp.add(900, FLOW_ESTABLISHED);
  await ask();
  any.add(900, FLOW_CLOSING);
  await ask();
  assert.deepEqual(
    reliefs.map(({ table }) => table),
    ['ct_tcp', 'ct_any'],
  );
});

test('flows that wait for their answer are spared where taking them all would not suffice', async (t) => {
  const { ct_tcp: tcp, ct_any: any, reliefs, ask } = openRelief(t);
  tcp.add(710, FLOW_ESTABLISHED);
  tcp.add(150, FLOW_HALF_OPEN);
  any.add(600, FLOW_ESTABLISHED);
  any.add(240, FLOW_HALF_OPEN);
  await ask();
  assert.deepEqual(
    reliefs.map(({ overfull, deleted }) => ({ overfull, deleted })),
    [
      { overfull: true, deleted: {} },
      { overfull: false, deleted: { half_open: 140 } },
    ],
  );
});

test('LRU is not kept off connections that overfill a table: no new one would stay in it', async (t) => {
  const { ct_tcp: tcp, ct_any: any, ask } = openRelief(t);
  tcp.add(900, FLOW_ESTABLISHED);
  await ask();
  const { looks } = tcp.seen;
  any.add(CAPACITY / 8, FLOW_ESTABLISHED);
  await ask();
  assert.equal(tcp.seen.looks, looks);
  tcp.take(300, FLOW_ESTABLISHED);
  any.add(CAPACITY / 2, FLOW_ESTABLISHED);
  await ask();
  assert.ok(tcp.seen.looks > looks, 'as much has come as may push them out');
});
