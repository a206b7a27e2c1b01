import assert from 'node:assert/strict';
import { test } from 'node:test';
import { alternating, dividedRounds, pairedRatios, summarise } from '../bench/statistics.ts';
import { ratioText, withQuartiles } from '../bench/text.ts';

test('a summary has the median, interpolated quartiles and the range, in any order', () => {
  assert.deepEqual(summarise([9, 1, 5, 3, 7]), { median: 5, q1: 3, q3: 7, min: 1, max: 9 });
  assert.deepEqual(summarise([4, 1, 2, 3]), { median: 2.5, q1: 1.75, q3: 3.25, min: 1, max: 4 });
  assert.throws(() => summarise([]), RangeError);
});

test('ratios are taken within a round, so that a slow minute cancels out', () => {
  assert.deepEqual(pairedRatios([10, 5, 22], [10, 5, 20]), [1, 1, 1.1]);
  assert.throws(() => pairedRatios([1], [1, 2]), RangeError);
});

test('the order of measuring turns round with every round', () => {
  assert.equal([...alternating(['a', 'b', 'c'], 3)].join(''), 'abccbaabc');
});

test('rounds are divided among sets, and the order goes on turning', () => {
  assert.deepEqual(dividedRounds(9, 3), [3, 3, 3]);
  assert.deepEqual(dividedRounds(7, 3), [3, 2, 2]);
  assert.deepEqual(dividedRounds(1, 3), [1]);
  assert.equal([...alternating(['a', 'b', 'c'], 2, 3)].join(''), 'cbaabc');
});

test('figures are printed with their spread', () => {
  const summary = { median: 152_000, q1: 147_400, q3: 153_100, min: 135_000, max: 159_000 };
  assert.equal(withQuartiles(summary, 1e3), '152 (147–153)');
  assert.equal(withQuartiles({ ...summary, median: 10_000 }, 1e3), '10.0 (147.4–153.1)');
  assert.equal(
    ratioText({ median: 1.1, q1: 1.05, q3: 1.123, min: 0.98, max: 1.2 }),
    '1.10 (1.05–1.12; 0.98–1.20)',
  );
});
