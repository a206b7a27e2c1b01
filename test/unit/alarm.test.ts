import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createAlarm } from '../../agent/engine/alarm.ts';

const LONGEST = 2 ** 31 - 1;

/** An alarm on a clock of seconds that the test moves, with what its timers were to wait. */
function openAlarm(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const setTimer = t.mock.method(globalThis, 'setTimeout');
  const rung: number[] = [];
  const clock = () => Date.now() / 1000;
  const alarm = createAlarm(clock, () => rung.push(clock()));
  const waits = () => setTimer.mock.calls.map(({ arguments: [, wait] }) => Number(wait));
  return { alarm, rung, waits };
}

test('an alarm rings when its time has come, once', (t) => {
  const { alarm, rung } = openAlarm(t);
  alarm.set(20);
  alarm.set(10);
  t.mock.timers.tick(9999);
  assert.deepEqual(rung, []);
  t.mock.timers.tick(30_000);
  assert.equal(rung.length, 1);
});

test('a time of weeks is waited for in parts that a timer can take', (t) => {
  const { alarm, rung, waits } = openAlarm(t);
  const far = 3 * LONGEST - 5;
  alarm.set(far / 1000);
  for (const step of [LONGEST, LONGEST, LONGEST - 6]) {
    t.mock.timers.tick(step);
    assert.deepEqual(rung, []);
  }
  t.mock.timers.tick(1);
  assert.equal(rung.length, 1);
  assert.ok(waits().length >= 3 && waits().every((wait) => wait <= LONGEST), `${waits()}`);
});

test('a time that has passed rings at once, and none after a stop', (t) => {
  const { alarm, rung } = openAlarm(t);
  alarm.set(-5);
  t.mock.timers.tick(1);
  assert.equal(rung.length, 1);
  alarm.set(1);
  alarm.stop();
  alarm.set(2);
  t.mock.timers.tick(9000);
  assert.equal(rung.length, 1);
});
