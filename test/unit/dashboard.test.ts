import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { metricCatalog, mistakesIn, selectorsOf } from '../lib/metric-catalog.ts';
import { promtool, withoutPromtool } from '../lib/promtool.ts';

interface Place {
  x: number;
  y: number;
  w: number;
  h: number;
}

interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  datasource?: { type: string; uid: string };
  gridPos: Place;
  fieldConfig?: { defaults: { unit?: string } };
  targets?: { refId: string; expr: string; legendFormat: string }[];
}

const FILE = join(import.meta.dirname, '../../deploy/grafana/sekisho.json');
const { panels, templating, schemaVersion } = JSON.parse(readFileSync(FILE, 'utf8')) as {
  panels: Panel[];
  templating: { list: { name: string; query: string | { query: string } }[] };
  schemaVersion: number;
};
const graphs = panels.filter(({ type }) => type !== 'row');
const COLUMNS = 24;

function overlap(a: Place, b: Place): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

test('every query asks for metrics that are served, with those labels', () => {
  const catalog = metricCatalog();
  for (const { title, targets = [] } of graphs) {
    assert.ok(targets.length > 0, title);
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
    for (const { expr, legendFormat } of targets) {
      assert.deepEqual(mistakesIn(expr, catalog), [], title);
      assert.ok(selectorsOf(expr).length > 0, title);
      assert.match(expr, /instance=~"\$instance"/, title);
      for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
        const known = selectorsOf(expr).flatMap(({ metric }) => catalog.get(metric)?.labels ?? []);
        assert.ok(['instance', ...known].includes(label), `${title}: ${label}`);
      }
    }
  }
});

test('every query is PromQL', { skip: withoutPromtool }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'sekisho-dashboard-'));
  try {
    const expressions = graphs.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    const rules = expressions.map((expr, i) => ({
      record: `query:${i}`,
      expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.+'),
    }));
    const file = join(directory, 'queries.yml');
    writeFileSync(file, stringify({ groups: [{ name: 'dashboard', rules }] }));
    const { status, said } = promtool(['check', 'rules', file]);
    assert.equal(status, 0, said);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('every metric of this project is on it', () => {
  const shown = new Set(
    graphs
      .flatMap(({ targets = [] }) => targets.flatMap(({ expr }) => selectorsOf(expr)))
      .map(({ metric }) => metric.replace(/_(bucket|sum|count)$/, '')),
  );
  const missing = [...metricCatalog().keys()].filter(
    (name) => name.startsWith('sekisho_') && !shown.has(name),
  );
  assert.deepEqual(missing, []);
});

test('every panel says what it shows, and in which unit', () => {
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  for (const { title, description = '', fieldConfig, datasource } of graphs) {
    assert.ok(title.length > 0);
    assert.ok(description.endsWith('.'), title);
    assert.ok(fieldConfig?.defaults.unit, title);
    assert.deepEqual(datasource, { type: 'prometheus', uid: '$datasource' }, title);
  }
  assert.equal(new Set(graphs.map(({ title }) => title)).size, graphs.length);
});

test('no panel lies on another, or beyond the edge', () => {
  for (const [i, { title, gridPos }] of panels.entries()) {
    assert.ok(gridPos.x >= 0 && gridPos.x + gridPos.w <= COLUMNS, title);
    for (const other of panels.slice(i + 1)) {
      assert.ok(!overlap(gridPos, other.gridPos), `${title} and ${other.title}`);
    }
  }
});

test('data source, node and instance are chosen at the top', () => {
  assert.deepEqual(
    templating.list.map(({ name }) => name),
    ['datasource', 'node', 'instance'],
  );
  const catalog = metricCatalog();
  for (const { query } of templating.list) {
    if (typeof query !== 'string') assert.deepEqual(mistakesIn(query.query, catalog), []);
  }
  assert.ok(schemaVersion >= 36 && schemaVersion <= 41, 'what Grafana 10 and 11 read');
});
