import assert from 'node:assert/strict';
import { test } from 'node:test';
import { passWhenTold } from '../../agent/daemon/told.ts';
import type { CollectorStatus } from '../../agent/engine/collector.ts';
import type { Sweep } from '../../agent/engine/sweep.ts';

const PASS_MS = 2000;

/** A collector whose passes, and the rests after them, end when the test says so. */
function openCollector() {
  const ends: (() => void)[] = [];
  const pending = <T>(value: T) =>
    new Promise<T>((resolve) => {
      ends.push(() => resolve(value));
    });
  const reasons: unknown[] = [];
  const rests: number[] = [];
  const run = (reason?: string) => {
    reasons.push(reason);
    return pending<Sweep>({ passes: [], failures: [] });
  };
  const status = () => ({ history: [{ durationMs: PASS_MS }] }) as unknown as CollectorStatus;
  const signal = passWhenTold({ run, status }, 'half_lost', (milliseconds) => {
    rests.push(milliseconds);
    return pending(undefined);
  });
  return {
    ...{ reasons, rests, signal },
    /** Ends what is under way: a pass, or a rest. */
    async next() {
      ends.shift()?.();
      await new Promise(setImmediate);
    },
  };
}

test('trouble makes a pass, which names it', async () => {
  const { reasons, signal, next } = openCollector();
  signal();
  await next();
  await next();
  assert.deepEqual(reasons, ['half_lost']);
});

test('passes take a tenth of the time at most', async () => {
  const { rests, signal, next } = openCollector();
  signal();
  await next();
  assert.deepEqual(rests, [9 * PASS_MS]);
});

test('what is told during a pass and its rest makes one pass after it', async () => {
  const { reasons, signal, next } = openCollector();
  for (let i = 0; i < 3; i++) signal();
  await next();
  for (let i = 0; i < 3; i++) signal();
  assert.equal(reasons.length, 1);
  await next();
  assert.equal(reasons.length, 2);
  await next();
  await next();
  assert.equal(reasons.length, 2);
  signal();
  assert.equal(reasons.length, 3);
});

test('a pass that did not come about is asked for again', async () => {
  let asked = 0;
  const run = () => {
    asked++;
    return Promise.reject(new Error('passes have stopped'));
  };
  const status = () => ({ history: [] }) as unknown as CollectorStatus;
  const signal = passWhenTold({ run, status }, 'nat_pressure');
  signal();
  await new Promise(setImmediate);
  signal();
  assert.equal(asked, 2);
});
