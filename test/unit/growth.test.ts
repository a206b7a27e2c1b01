import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createGrower } from '../../agent/engine/grower.ts';
import { growth, NO_PRESSURE, type Sight } from '../../agent/engine/growth.ts';
import type { ResizeOrder } from '../../agent/engine/resizer.ts';
import { mapMemory } from '../../agent/engine/sizing.ts';

const FULL = { alive: 950, capacity: 1000, most: 10_000 };
const NONE = { kind: 'none' };

/** The decisions of passes in a row, a second apart unless they say when. */
function decide(sights: Partial<Sight>[]) {
  let before = NO_PRESSURE;
  return sights.map((sight, i) => {
    const { growth: decision, pressure } = growth({ ...FULL, at: 1000 * i, ...sight }, before);
    before = pressure;
    return decision;
  });
}

describe('a table under pressure', () => {
  it('doubles after three passes in a row above nine tenths', () => {
    assert.deepEqual(decide([{}, {}, {}]), [NONE, NONE, { kind: 'grow', entries: 2000 }]);
  });

  it('waits for three more passes before it doubles again', () => {
    const capacity = 2000;
    const again = Array.from({ length: 3 }, () => ({ alive: 1900, capacity }));
    assert.deepEqual(decide([{}, {}, {}, ...again]).slice(3), [
      NONE,
      NONE,
      { kind: 'grow', entries: 4000 },
    ]);
  });

  it('stays as it is while one pass in three finds room', () => {
    const passes = [{}, {}, { alive: 900 }, {}, {}, { alive: 900 }, {}, {}];
    assert.deepEqual(new Set(decide(passes).map(({ kind }) => kind)), new Set(['none']));
  });

  it('counts passes within a second as one', () => {
    const at = [0, 300, 600, 900, 1000, 1500, 2000];
    const decisions = decide(at.map((time) => ({ at: time })));
    assert.deepEqual(
      decisions.map(({ kind }) => kind),
      ['none', 'none', 'none', 'none', 'none', 'none', 'grow'],
    );
  });

  it('grows to what the memory bound leaves, where that is a tenth more at least', () => {
    assert.deepEqual(decide([{}, {}, { most: 1100 }])[2], { kind: 'grow', entries: 1100 });
    assert.deepEqual(decide([{}, {}, { most: 1099 }])[2], { kind: 'stuck' });
  });

  it('says once that it cannot grow, and again after the pressure was gone', () => {
    const stuck = { most: 500 };
    const passes = [stuck, stuck, stuck, stuck, stuck, { alive: 1 }, stuck, stuck, stuck];
    assert.deepEqual(
      decide(passes).map(({ kind }) => kind),
      ['none', 'none', 'stuck', 'none', 'none', 'none', 'none', 'none', 'stuck'],
    );
  });

  it('grows as soon as the bound leaves it room again', () => {
    const stuck = { most: 500 };
    assert.deepEqual(decide([stuck, stuck, stuck, stuck, {}])[4], { kind: 'grow', entries: 2000 });
  });

  it('never exceeds the largest size of a table', () => {
    const huge = { alive: 15_900_000, capacity: 16_000_000, most: 1e9 };
    const large = { alive: 9_900_000, capacity: 10_000_000, most: 1e9 };
    assert.equal(decide([huge, huge, huge])[2]?.kind, 'stuck');
    assert.deepEqual(decide([large, large, large])[2], { kind: 'grow', entries: 16_777_216 });
  });
});

describe('a grower', () => {
  const CAPACITY = 4096;
  const capacities = {
    ...{ 'ipv4/ctTcp': CAPACITY, 'ipv4/ctAny': CAPACITY, 'ipv4/nat': CAPACITY },
    ...{ 'ipv6/ctTcp': CAPACITY, 'ipv6/ctAny': CAPACITY, 'ipv6/nat': CAPACITY },
  };
  const PASS = {
    ...{ alive: 4000, deleted: 0, skipped: 0, failed: 0, natDeleted: 0, completed: 0 },
    ...{ capacity: CAPACITY, classes: {}, evicted: 0, durationMs: 1 },
  };

  function grower(bound: number) {
    const [orders, warnings]: [ResizeOrder[], string[]] = [[], []];
    let [time, asked] = [0, 0];
    const resize = Promise.withResolvers<never[]>();
    const { onPass: grow, onRelief } = createGrower({
      resizer: {
        capacities: () => capacities,
        resize(order) {
          orders.push(order);
          return resize.promise;
        },
      },
      bound,
      again: () => void asked++,
      now: () => (time += 5000),
      logger: { debug() {}, info() {}, warn: (_, text) => void warnings.push(text), error() {} },
    });
    return { grow, onRelief, orders, warnings, resize, asked: () => asked };
  }

  /** Of a machine without memory for a larger table; its clock is the test's. */
  function failingGrower() {
    const orders: ResizeOrder[] = [];
    let [time, asked] = [0, 0];
    const table = { family: 'ipv4', table: 'snat' } as const;
    const { onPass, onRelief } = createGrower({
      resizer: {
        capacities: () => capacities,
        resize(order) {
          orders.push(order);
          return Promise.reject(new Error('cannot create map snat: out of memory'));
        },
      },
      ...{ bound: 1e9, again: () => void asked++, now: () => time },
      logger: { debug() {}, info() {}, warn() {}, error() {} },
    });
    return {
      orders,
      asked: () => asked,
      wait(milliseconds: number) {
        time += milliseconds;
      },
      async pass(capacity = CAPACITY) {
        onPass({ ...table, alive: capacity, capacity });
        await new Promise(setImmediate);
      },
      relieve: () => onRelief({ ...table, capacity: CAPACITY, before: CAPACITY, deleted: {} }),
    };
  }

  it('asks for one table of one family, once until that is done', async () => {
    const { grow, orders, resize } = grower(1e9);
    for (let i = 0; i < 7; i++) {
      grow({ ...PASS, family: 'ipv4', table: 'snat' });
      grow({ ...PASS, family: 'ipv6', table: 'snat', alive: 10 });
    }
    assert.deepEqual(orders, [
      { table: 'nat', families: ['ipv4'], entries: 2 * CAPACITY, reason: 'growth' },
    ]);
    resize.resolve([]);
    await new Promise(setImmediate);
    for (let i = 0; i < 3; i++) grow({ ...PASS, family: 'ipv4', table: 'snat' });
    assert.equal(orders.length, 2);
  });

  it('asks for the passes that it takes to be sure, and for no more', () => {
    const { grow, asked } = grower(1e9);
    const seen = [1, 2, 3, 4].map(() => {
      grow({ ...PASS, family: 'ipv4', table: 'snat' });
      return asked();
    });
    assert.deepEqual(seen, [1, 2, 2, 2]);
  });

  it('asks for one where relief left a table full, unless that has been told', () => {
    const { grow, onRelief, asked, warnings } = grower(1);
    const relief = { family: 'ipv4', table: 'snat', capacity: CAPACITY, before: 4000 } as const;
    onRelief({ ...relief, deleted: { syn: 400 } });
    assert.equal(asked(), 0);
    onRelief({ ...relief, deleted: {} });
    assert.equal(asked(), 1);
    for (let i = 0; i < 3; i++) grow({ ...PASS, family: 'ipv4', table: 'snat' });
    assert.equal(warnings.length, 1);
    const before = asked();
    onRelief({ ...relief, deleted: {} });
    assert.equal(asked(), before);
  });

  it('tries again ever later after a failure, and asks for nothing until then', async () => {
    const { orders, pass, relieve, asked, wait } = failingGrower();
    const failedAt: number[] = [];
    for (let second = 0; second < 3600; second++) {
      const before = orders.length;
      await pass();
      if (orders.length > before) failedAt.push(second);
      relieve();
      wait(1000);
    }
    const waits = failedAt.slice(1).map((at, i) => at - (failedAt[i] ?? 0));
    assert.deepEqual(failedAt.length, 6, `${failedAt}`);
    for (const [i, wait] of waits.entries()) assert.ok(wait >= 60 * 2 ** i, `${waits}`);
    assert.ok(asked() <= 5 * failedAt.length, `${asked()} passes`);
  });

  it('tries at once when the table has another size than the one that could not grow', async () => {
    const { orders, pass, wait } = failingGrower();
    const passes = async (capacity?: number) => {
      for (let i = 0; i < 4; i++) {
        wait(1000);
        await pass(capacity);
      }
    };
    await passes();
    await passes();
    assert.equal(orders.length, 1);
    await passes(CAPACITY - 1000);
    assert.equal(orders.length, 2);
  });

  it('leaves tables alone whose bound is what they take', () => {
    const families = ['ipv4', 'ipv6'] as const;
    const bound = families.reduce(
      (sum, family) =>
        sum + 2 * mapMemory('ctTcp', family, CAPACITY) + mapMemory('nat', family, CAPACITY),
      0,
    );
    const { grow, orders, warnings } = grower(bound);
    for (let i = 0; i < 9; i++) grow({ ...PASS, family: 'ipv6', table: 'ct_any' });
    assert.deepEqual(orders, []);
    assert.equal(warnings.length, 1);
  });
});
