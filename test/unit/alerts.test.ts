import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { parseTable } from '../../agent/cli/map-resize.ts';
import { FAMILIES } from '../../agent/lib/ip.ts';
import { CONNECTION_TABLES } from '../../agent/tables/names.ts';
import { metricCatalog, mistakesIn, selectorsOf } from '../lib/metric-catalog.ts';
import { promtool, withoutPromtool } from '../lib/promtool.ts';

interface Rule {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: string };
  annotations: Record<string, string>;
}

interface RuleTest {
  name: string;
  promql_expr_test?: { exp_samples: unknown[] }[];
}

const PROJECT = join(import.meta.dirname, '../..');
const RULES = 'deploy/prometheus/sekisho.rules.yml';
const TESTS = 'deploy/prometheus/sekisho.rules.test.yml';
const read = (path: string) => parse(readFileSync(join(PROJECT, path), 'utf8'));
const rules: Rule[] = read(RULES).groups.flatMap(({ rules }: { rules: Rule[] }) => rules);
const tests: RuleTest[] = read(TESTS).tests;

test('promtool finds nothing wrong with the rules', { skip: withoutPromtool }, () => {
  const { status, said } = promtool(['check', 'rules', RULES]);
  assert.equal(status, 0, said);
});

test('each alert fires when it should, and only then', { skip: withoutPromtool }, () => {
  const { status, said } = promtool(['test', 'rules', TESTS]);
  assert.equal(status, 0, said);
});

test('each alert has a case in which it fires, and a near one in which it stays quiet', () => {
  for (const { alert } of rules) {
    const samples = (how: string) =>
      tests
        .filter(({ name }) => name.startsWith(`${alert} ${how} `))
        .flatMap(({ promql_expr_test: cases = [] }) => cases.map((one) => one.exp_samples.length));
    assert.ok(samples('fires').length > 0 && samples('fires').every((count) => count > 0), alert);
    assert.ok(samples('stays quiet').length > 0, alert);
    assert.ok(
      samples('stays quiet').every((count) => count === 0),
      alert,
    );
  }
});

test('each alert says how bad it is, what it means and what to do', () => {
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
  for (const { alert, labels, annotations } of rules) {
    assert.match(alert, /^Sekisho[A-Z]\w+$/);
    assert.match(labels.severity, /^(critical|warning)$/, alert);
    const { summary = '', description = '' } = annotations;
    assert.match(summary, /\$labels\.instance/, alert);
    assert.ok(!summary.endsWith('.') && description.endsWith('.'), alert);
    assert.match(description, /\b(sekisho|systemctl) [a-z]+/, alert);
  }
});

test('what alerts ask for is served, with those labels', () => {
  const catalog = metricCatalog();
  for (const { alert, expr, annotations } of rules) {
    assert.deepEqual(mistakesIn(expr, catalog), [], alert);
    for (const text of Object.values(annotations)) {
      assert.deepEqual(mistakesIn(text, catalog), [], alert);
    }
  }
  assert.ok(rules.flatMap(({ expr }) => selectorsOf(expr)).length > rules.length);
});

test('a resize that an alert or the documentation tells can be run', () => {
  const maps = FAMILIES.flatMap((family) => CONNECTION_TABLES.map((table) => `${family}/${table}`));
  const resizedIn = (text: string) =>
    Array.from(text.matchAll(/sekisho map resize ([\w/]+)/g), ([, name = '']) => name);
  const telling = new Set<string>();
  for (const { alert, annotations } of rules) {
    for (const map of maps) {
      const labels: Record<string, string> = { map, family: map.split('/')[0] ?? '' };
      const text = annotations.description?.replaceAll(
        /\{\{ \$labels\.(\w+) \}\}/g,
        (_, label) => labels[label] ?? label,
      );
      for (const name of resizedIn(text ?? '')) {
        telling.add(alert);
        assert.doesNotThrow(() => parseTable(name), alert);
      }
    }
  }
  assert.equal(telling.size, 4);
  const documented = resizedIn(readFileSync(join(PROJECT, 'docs/operations.md'), 'utf8'));
  assert.ok(documented.length > 2);
  for (const name of documented) parseTable(name);
});

test('operators find every alert in the documentation', () => {
  const text = readFileSync(join(PROJECT, 'docs/operations.md'), 'utf8');
  for (const { alert } of rules) assert.ok(text.includes(`\`${alert}\``), alert);
});
