import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes, formatDuration, parseDuration } from '../../agent/lib/units.ts';

test('durations parse to seconds', () => {
  assert.equal(parseDuration('2h13m20s'), 8000);
  assert.equal(parseDuration('10s'), 10);
  assert.equal(parseDuration('1d'), 86_400);
  assert.equal(parseDuration('0s'), 0);
});

test('what is no duration is refused', () => {
  for (const text of ['', '10', 's', '10 s', '1s1m', '1.5s', '-1s', '10ms', '9999999999999999s']) {
    assert.throws(() => parseDuration(text), { code: 'E_BAD_DURATION' });
  }
});

test('durations print in the notation they are written in', () => {
  assert.equal(formatDuration(8000), '2h13m20s');
  assert.equal(formatDuration(43_200), '12h');
  assert.equal(formatDuration(0), '0s');
  assert.equal(formatDuration(0.35), '350ms');
  assert.equal(formatDuration(61.6), '1m2s');
});

test('byte counts print in binary units', () => {
  assert.equal(formatBytes(0), '0 B');
  assert.equal(formatBytes(1536), '1.5 KiB');
  assert.equal(formatBytes(64 * 1024 * 1024), '64 MiB');
});
