import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type CollectorOptions, startCollector } from '../../agent/engine/collector.ts';
import type { CollectedTable } from '../../agent/engine/pass.ts';
import type { Batch } from '../../agent/engine/walk.ts';
import { until } from '../lib/wait.ts';

const CAPACITY = 1000;
const SPACING_MS = 100;
const AUTO = { interval: 'auto', min: 10, max: 43_200 } as const;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** A collector of one table, whose passes find so many expired as they are told. */
function collector(t: TestContext, overrides: Partial<CollectorOptions> = {}) {
  const load = { expired: 0, alive: 0, fails: false, busy: 0, most: 0 };
  async function* batches(): AsyncGenerator<Batch> {
    load.most = Math.max(load.most, ++load.busy);
    try {
      await delay(2);
      if (load.fails) throw new Error('ENOMEM');
      const count = load.expired + load.alive;
      const values = new Uint8Array(4 * count);
      new Uint32Array(values.buffer).fill(200, load.expired);
      yield { keys: new Uint8Array(16 * count), values, count };
      load.expired = 0;
    } finally {
      load.busy--;
    }
  }
  const table: CollectedTable = {
    ...{ family: 'ipv4', table: 'ct_tcp', capacity: CAPACITY, keySize: 16, valueSize: 4 },
    ...{
      expiresOffset: 0,
      mapping: { address: 0, port: 0 },
      classes: ['some'],
      classOf: () => 5,
      lookupBatch: batches,
    },
  };
  const failures: string[] = [];
  const running = startCollector({
    tables: () => [table],
    async reap(_family, _table, _keys, count) {
      const nothing = { skipped: 0, natDeleted: 0, failed: 0, completed: 0, now: 100 };
      return { deleted: count, ...nothing };
    },
    now: () => 100,
    turnover: () => ({ created: load.alive, deleted: 0 }),
    lifetimes: () => ({ tcpSyn: 60, any: 60 }),
    schedule: AUTO,
    spacingMs: SPACING_MS,
    logger: SILENT,
    onPass() {},
    onRecord() {},
    onFailure: ({ table: name }) => void failures.push(name),
    ...overrides,
  });
  t.after(() => running.stop());
  return { running, load, failures };
}

test('requests that come close together share a pass, which names the reason of each', async (t) => {
  const { running } = collector(t);
  await running.run('start');
  const asked = [running.run('nat_pressure'), running.run(), running.run('nat_pressure')];
  const results = await Promise.all(asked);
  assert.ok(results.every((result) => result === results[0]));
  const reasons = running.status().history.map((record) => record.reasons);
  assert.deepEqual(reasons, [['nat_pressure', 'request'], ['start']]);
});

test('a storm of requests neither stretches nor starves the schedule', async (t) => {
  const { running } = collector(t);
  await running.run();
  const { nextRun: due = 0 } = running.status();
  const before = performance.now();
  while (performance.now() - before < 5 * SPACING_MS) {
    running.run('nat_pressure').catch(() => {});
    await delay(5);
  }
  await running.run();
  const { runs, nextRun = 0, intervalSeconds } = running.status();
  assert.ok(runs <= 8, `${runs} passes`);
  assert.equal(intervalSeconds, 300);
  assert.ok(Math.abs(nextRun - due) < 1000, 'what was due is due');
});

test('an interval of weeks is as long as it says', async (t) => {
  const weeks = 5 * 7 * 86_400;
  const { running } = collector(t, { schedule: { interval: weeks, min: 10, max: weeks } });
  await running.run('start');
  await running.run();
  const reasons = running.status().history.map((record) => record.reasons);
  assert.deepEqual(reasons, [['request'], ['start']]);
});

test('a pass that is due comes by itself, and the interval follows what it finds', async (t) => {
  const { running, load } = collector(t, { schedule: { interval: 'auto', min: 1, max: 2 } });
  await running.run('start');
  load.expired = 600;
  await running.run();
  assert.equal(running.status().intervalSeconds, 1);
  load.expired = 10;
  await until('the next pass', () => running.status().runs > 2);
  assert.equal(running.status().intervalSeconds, 2);
  assert.deepEqual(running.status().history[0]?.reasons, ['interval']);
});

test('a pass that fails says so, and counts for nothing', async (t) => {
  const { running, load, failures } = collector(t);
  await running.run('start');
  const { nextRun: due = 0, intervalSeconds } = running.status();
  load.fails = true;
  const failure = { family: 'ipv4', table: 'ct_tcp', code: 'E_INTERNAL', message: 'ENOMEM' };
  assert.deepEqual(await running.run(), { passes: [], failures: [failure] });
  const { history, nextRun = 0, ...after } = running.status();
  assert.deepEqual([history[0]?.status, history[0]?.error], ['failed', 'ipv4/ct_tcp: ENOMEM']);
  assert.deepEqual(failures, ['ct_tcp']);
  assert.equal(after.intervalSeconds, intervalSeconds);
  assert.ok(Math.abs(nextRun - due) < 1000);
  load.fails = false;
  await running.run();
  assert.equal(running.status().history[0]?.status, 'completed');
});

test('neither a pass nor a relief comes between exclusive work', async (t) => {
  const { running, load } = collector(t);
  await running.run('start');
  load.alive = 900;
  await running.exclusive(async () => {
    running.run('request').catch(() => {});
    running.relieve('ipv4');
    await delay(2 * SPACING_MS);
    assert.deepEqual([load.busy, running.status().runs], [0, 1]);
  });
  await until('the pass', () => running.status().runs > 1);
  await until('the relief', () => running.status().reliefs.length > 0);
  assert.equal(running.status().reliefs[0]?.before, 900);
});

test('a relief that finds nobody who may go rests', async (t) => {
  const { running, load } = collector(t);
  await running.run('start');
  load.alive = 900;
  for (let i = 0; i < 20; i++) {
    running.relieve('ipv4');
    await delay(10);
  }
  assert.equal(running.status().reliefs.length, 1);
  assert.deepEqual(running.status().reliefs[0]?.deleted, {});
});
