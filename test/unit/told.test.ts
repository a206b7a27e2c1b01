import assert from 'node:assert/strict';
import { test } from 'node:test';
import { passWhenTold } from '../../agent/daemon/told.ts';
import type { CollectorStatus } from '../../agent/engine/collector.ts';
import type { Sweep } from '../../agent/engine/sweep.ts';

/** A collector whose passes take so many milliseconds of a clock that the test moves. */
function openCollector(durationMs: number) {
  let time = 0;
  let finish = () => {};
  const reasons: unknown[] = [];
  const run = (reason?: string) => {
    reasons.push(reason);
    return new Promise<Sweep>((resolve) => {
      finish = () => resolve({ passes: [], failures: [] });
    });
  };
  const status = () => ({ history: [{ durationMs }] }) as unknown as CollectorStatus;
  const signal = passWhenTold({ run, status }, 'nat_pressure', () => time);
  return {
    reasons,
    signal,
    async finish() {
      time += durationMs;
      finish();
      await new Promise(setImmediate);
    },
    wait(milliseconds: number) {
      time += milliseconds;
    },
  };
}

test('ports that run short make a pass, and signals during it no other', async () => {
  const { reasons, signal, finish } = openCollector(5);
  for (let i = 0; i < 3; i++) signal();
  await finish();
  assert.deepEqual(reasons, ['nat_pressure']);
});

test('passes take a tenth of the time at most, however often it is told', async () => {
  const { reasons, signal, finish, wait } = openCollector(2000);
  signal();
  await finish();
  for (let second = 0; second < 17; second++) {
    wait(1000);
    signal();
  }
  assert.equal(reasons.length, 1);
  wait(1000);
  signal();
  assert.equal(reasons.length, 2);
});

test('a pass that did not come about is asked for again', async () => {
  let asked = 0;
  const run = () => {
    asked++;
    return Promise.reject(new Error('passes have stopped'));
  };
  const status = () => ({ history: [] }) as unknown as CollectorStatus;
  const signal = passWhenTold({ run, status }, 'half_lost');
  signal();
  await new Promise(setImmediate);
  signal();
  assert.equal(asked, 2);
});
