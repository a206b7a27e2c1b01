import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type KnownMetric, mistakesIn } from '../lib/metric-catalog.ts';

const CATALOG = new Map<string, KnownMetric>([
  ['sekisho_flows_total', { type: 'counter', labels: ['family', 'kind'] }],
  ['sekisho_wait_seconds', { type: 'histogram', labels: [] }],
]);

test('an expression over what is served has no mistakes', () => {
  for (const expression of [
    'sum by (kind) (rate(sekisho_flows_total{family=~"ipv.", instance="a"}[5m])) > 0',
    'histogram_quantile(0.9, sum by (le) (rate(sekisho_wait_seconds_bucket[5m])))',
    'sekisho_wait_seconds_sum / sekisho_wait_seconds_count',
    'up == 0',
  ]) {
    assert.deepEqual(mistakesIn(expression, CATALOG), []);
  }
});

test('names and labels that nobody serves are found', () => {
  assert.deepEqual(mistakesIn('rate(sekisho_flow_total[5m])', CATALOG), [
    'sekisho_flow_total is not served',
  ]);
  assert.deepEqual(mistakesIn('sekisho_flows_total{famly="ipv4"}', CATALOG), [
    'sekisho_flows_total has no label famly',
  ]);
  assert.deepEqual(mistakesIn('sum by (map) (sekisho_flows_total)', CATALOG), [
    'nothing in it has the label map',
  ]);
  assert.deepEqual(mistakesIn('sekisho_wait_seconds', CATALOG), [
    'sekisho_wait_seconds is not served',
  ]);
});
