import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { drop_reason } from '../../agent/abi/generated.ts';
import { metricCatalog } from '../lib/metric-catalog.ts';

const DOCS = join(import.meta.dirname, '..', '..', 'docs');

/** Names in backquotes in the first column of a page's tables. */
function firstColumn(page: string): string[] {
  const text = readFileSync(join(DOCS, page), 'utf8');
  return [...text.matchAll(/^\| ((?:`\w+`(?:, )?)+) \|/gm)].flatMap(([, cell]) =>
    [...(cell ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => name ?? ''),
  );
}

const reasons = Object.keys(drop_reason)
  .filter((name) => name !== 'DROP_NONE' && name !== 'DROP_REASON_COUNT')
  .map((name) => name.slice('DROP_'.length).toLowerCase());

test('the page of drop reasons names each one, in the order of the enum', () => {
  assert.deepEqual(firstColumn('drop-reasons.md'), reasons);
});

test('the flow table says for each drop reason which packet it is', () => {
  const text = readFileSync(join(DOCS, 'flows.md'), 'utf8');
  const drops = text.slice(text.indexOf('\n## Drops'));
  for (const reason of reasons) assert.ok(drops.includes(`\`${reason}\``), reason);
});

test('every drop reason has a test in the datapath suite', () => {
  const names = ['drops', 'ports', 'failures', 'services', 'dsr'];
  const tests = names
    .map((name) => join(import.meta.dirname, '..', 'datapath', `${name}.test.ts`))
    .map((path) => readFileSync(path, 'utf8'))
    .join('\n');
  for (const reason of reasons) assert.match(tests, new RegExp(`'(drop )?${reason}'`), reason);
});

test('the page of metrics names each one with its type and its labels, and no other', () => {
  const text = readFileSync(join(DOCS, 'metrics.md'), 'utf8');
  const rows = text.matchAll(/^\| `(sekisho_\w+)` \| (\w+) \|(.*?)\| (.+) \|$/gm);
  const documented = Array.from(rows, ([, name = '', type = '', labels = '']) => {
    const names = Array.from(labels.matchAll(/`(\w+)`/g), ([, label = '']) => label);
    return { name, type, labels: names.sort() };
  });
  const served = Array.from(metricCatalog(), ([name, metric]) => ({ name, ...metric }));
  const own = served.filter(({ name }) => name.startsWith('sekisho_'));
  const byName = (a: { name: string }, b: { name: string }) => a.name.localeCompare(b.name);
  assert.deepEqual(documented.sort(byName), own.sort(byName));
});
