import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { compareConfigs } from '../../agent/config/changes.ts';
import { checkConfig } from '../../agent/config/load.ts';

const MEMORY = 8 * 1024 ** 3;
const before = `
masquerade: { exclude: [10.0.0.0/8], ports: { min: 40000 } }
endpoints: [{ name: a, interface: lxc-a, addresses: [10.0.1.1] }]
maps: { nat: 4096, ctTcp: 4096 }
`;

function change(after: string) {
  const [old, next] = [before, after].map((text) => checkConfig(text, 'file', MEMORY).config);
  assert.ok(old && next);
  return compareConfigs(old, next);
}

test('the same configuration, written otherwise, is no change', () => {
  const same = before.replace('{ min: 40000 }', '{ max: 65535, min: 40000 }');
  assert.deepEqual(change(`# comment\n${same}`), { keys: [], fixed: [], programs: false });
});

test('a changed key is named by its path, a list as a whole', () => {
  const { keys } = change(before.replace('min: 40000', 'min: 39999').replace('lxc-a', 'lxc-b'));
  assert.deepEqual(keys, ['masquerade.ports.min', 'endpoints']);
});

test('sizes, places and the way of attaching are fixed', () => {
  const after = `${before.replace('nat: 4096', 'nat: 2048')}
state: { runDir: /run/other }
datapath: { attach: tcx, routing: stack }
`;
  assert.deepEqual(change(after).fixed, ['datapath.attach', 'maps.nat', 'state.runDir']);
});

test('only what is folded into the programs loads them again', () => {
  for (const [section, programs] of [
    ['conntrack: { accounting: true }', true],
    ['conntrack: { timeouts: { tcp: 1h } }', true],
    ['datapath: { routing: stack }', true],
    ['gc: { interval: 5m }', false],
    ['log: { level: debug }', false],
    ['node: { podCIDRs: [10.0.1.0/24] }', false],
  ] as const) {
    assert.equal(change(`${before}${section}\n`).programs, programs, section);
  }
});

test('the page on configuration marks exactly the keys that take a restart', () => {
  const page = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  const marked = [...page.matchAll(/^\| `([\w.[\]]+)` \|.*\*restart\*/gm)].map(([, key]) => key);
  assert.deepEqual(marked, [
    'datapath.attach',
    'maps.memoryRatio',
    'maps.maxMemoryRatio',
    'maps.ctTcp',
    'maps.ctAny',
    'maps.nat',
    'state.bpffs',
    'state.runDir',
  ]);
});
