import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nat_class } from '../../agent/abi/generated.ts';
import type { CollectedTable } from '../../agent/engine/pass.ts';
import { type ReliefTools, relieveFamily } from '../../agent/engine/relieve.ts';
import type { Batch } from '../../agent/engine/walk.ts';

const CAPACITY = 1000;
const NOW = 100;
const BATCH = 100;

interface Pair {
  number: number;
  /** Seconds that are left to both halves. */
  left: number;
}

/** An `snat` table of pairs, walked forward halves first; the reaper takes the pairs it is shown. */
function natTable(pairs: Pair[]) {
  const taken = new Set<number>();
  async function* batches(): AsyncGenerator<Batch> {
    const halves = [...pairs, ...pairs].filter(({ number }) => !taken.has(number));
    for (let at = 0; at < halves.length; at += BATCH) {
      const part = halves.slice(at, at + BATCH);
      const keys = Uint32Array.from(part.flatMap(({ number }) => [number, 0, 0, 0]));
      const values = Uint32Array.from(part.map(({ left }) => NOW + left));
      yield bytes(keys, values, part.length);
    }
  }
  const table: CollectedTable = {
    ...{ family: 'ipv4', table: 'snat', capacity: CAPACITY, keySize: 16, valueSize: 4 },
    ...{
      expiresOffset: 0,
      mapping: { address: 0, port: 0 },
      classes: [],
      classOf: () => nat_class.NAT_CLASS_ANY,
    },
    lookupBatch: batches,
  };
  const tools: ReliefTools = {
    async reap(_family, _table, keys, count, { orphans = 0 } = {}) {
      const view = new DataView(keys.buffer, keys.byteOffset);
      const numbers = Array.from({ length: count }, (_, i) => view.getUint32(16 * i, true));
      const fresh = new Set(orphans ? numbers.filter((number) => !taken.has(number)) : []);
      for (const number of fresh) taken.add(number);
      const nothing = { skipped: 0, failed: 0, completed: 0, now: NOW };
      return { deleted: fresh.size, natDeleted: fresh.size, ...nothing };
    },
    now: () => NOW,
    turnover: () => ({ created: 2 * pairs.length, deleted: 0 }),
    lifetimes: () => ({ tcpSyn: 60, any: 60 }),
  };
  return { table, tools, taken };
}

function bytes(keys: Uint32Array, values: Uint32Array, count: number): Batch {
  return { keys: new Uint8Array(keys.buffer), values: new Uint8Array(values.buffer), count };
}

test('of NAT pairs of one class those go that have been silent longest', async () => {
  const pairs = Array.from({ length: 450 }, (_, i) => ({ number: i, left: 1 + ((7 * i) % 450) }));
  const { table, tools, taken } = natTable(pairs);
  const guard = { keep: async () => {} };
  const [result] = await relieveFamily([table], () => true, guard, tools);
  assert.deepEqual(result?.deleted, { orphaned: 200 });
  const gone = pairs.filter(({ number }) => taken.has(number)).map(({ left }) => left);
  assert.equal(gone.length, 100);
  assert.ok(Math.max(...gone) <= 100, `one with ${Math.max(...gone)} s left went`);
});
