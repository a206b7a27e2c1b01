import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const AGENT = join(import.meta.dirname, '..', '..', 'agent');

/** From the top down; an import points downwards, or stays on its floor. */
const FLOORS = ['cli', 'daemon', 'services', 'config', 'engine', 'tables', 'abi', 'kernel', 'lib'];
/** Handed in from above, so only these may name it. */
const MAY_IMPORT_TELEMETRY = ['cli', 'daemon', 'telemetry'];

interface Import {
  file: string;
  from: string;
  target: string;
}

function imports(): Import[] {
  const files = readdirSync(AGENT, { recursive: true, encoding: 'utf8' });
  return files
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => {
      const text = readFileSync(join(AGENT, file), 'utf8');
      const matches = text.matchAll(/(?:from|import\()\s*'([^']+)'/g);
      return [...matches].map(([, target]) => ({
        ...{ file, from: file.split('/')[0] ?? '', target: target ?? '' },
      }));
    });
}

const all = imports();

test('imports between the floors of the agent point down', () => {
  const upwards = all.filter(({ file, from, target }) => {
    if (!target.startsWith('..')) return false;
    const to = join(file, '..', target).split('/')[0] ?? '';
    if (to === 'telemetry') return !MAY_IMPORT_TELEMETRY.includes(from);
    if (from === 'telemetry') return false;
    assert.ok(FLOORS.includes(to), `${file} imports ${target}, which is on no floor`);
    return FLOORS.indexOf(to) < FLOORS.indexOf(from);
  });
  assert.deepEqual(upwards, []);
});

test('only agent/kernel imports koffi', () => {
  const others = all.filter(({ from, target }) => target === 'koffi' && from !== 'kernel');
  assert.deepEqual(others, []);
});

test('the sources of the agent import no package that package.json does not list', () => {
  const manifest = JSON.parse(readFileSync(join(AGENT, '..', 'package.json'), 'utf8'));
  const known = new Set(Object.keys(manifest.dependencies));
  const foreign = all.filter(
    ({ target }) => !target.startsWith('.') && !target.startsWith('node:') && !known.has(target),
  );
  assert.deepEqual(foreign, []);
});
