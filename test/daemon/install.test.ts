import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  appendFileSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { type Output, tryRun } from '../lib/command.ts';
import { configure } from '../lib/daemon.ts';
import { make } from '../lib/install.ts';
import { nth } from '../lib/scene.ts';
import { topology } from '../lib/topology.ts';

const PREFIX = '/opt/tools';
const SMALL = { maps: { ctTcp: 4096, ctAny: 2048, nat: 4096 } };
const CONFIG = 'etc/sekisho/config.yaml';
const COMMAND = 'opt/tools/bin/sekisho';
const UNIT = 'opt/tools/lib/systemd/system/sekisho.service';
const LIBRARY = 'opt/tools/lib/sekisho';
const SHARED = [
  'grafana/sekisho.json',
  'prometheus/sekisho.rules.test.yml',
  'prometheus/sekisho.rules.yml',
].map((file) => join('opt/tools/share/doc/sekisho', file));

test('what make install puts somewhere works from there, and make uninstall takes it away', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `skt-${process.pid}-install-`));
  t.after(() => rmSync(directory, { recursive: true }));
  const place = { DESTDIR: directory, PREFIX };
  const at = (path: string) => join(directory, path);
  const installed = (...args: string[]): Promise<Output> => tryRun([at(COMMAND), ...args]);
  const said = await make('install', place);

  await t.test(
    'a command, a unit, a configuration, rules and dashboard, and one directory with the rest',
    () => {
      const installed = [CONFIG, COMMAND, LIBRARY, UNIT, ...SHARED];
      assert.deepEqual(filesOf(directory).toSorted(), installed.toSorted());
      assert.ok(lstatSync(at(COMMAND)).isSymbolicLink());
      assert.equal(realpathSync(at(COMMAND)), realpathSync(at(`${LIBRARY}/bin/sekisho`)));
      const unit = readFileSync(at(UNIT), 'utf8');
      assert.match(unit, /^ExecStart=\/opt\/tools\/bin\/sekisho agent$/m);
      assert.doesNotMatch(unit, /\/usr\/local/);
      assert.match(said, /installed .*config\.yaml/);
    },
  );

  await t.test('without what only development needs', () => {
    const modules = readdirSync(at(`${LIBRARY}/node_modules`));
    assert.ok(modules.includes('koffi') && modules.includes('fastify'));
    for (const name of ['typescript', '@biomejs', 'fast-check', '@types']) {
      assert.ok(!modules.includes(name), name);
    }
  });

  await t.test('the command knows its version, the shipped file, and the machine', async () => {
    const { version } = JSON.parse(readFileSync(at(`${LIBRARY}/package.json`), 'utf8'));
    assert.deepEqual(await installed('--version'), { code: 0, stdout: `${version}\n`, stderr: '' });
    assert.equal((await installed('config', 'check', at(CONFIG))).code, 0);
    const { checks } = JSON.parse((await installed('doctor', '-o', 'json')).stdout);
    const objects = checks.find(({ name }: { name: string }) => name === 'BPF objects');
    assert.equal(objects.ok, true, objects.detail);
    const names = checks.map(({ name }: { name: string }) => name);
    assert.deepEqual(names.slice(-3), ['BPF JIT', 'open files', 'memory']);
  });

  await t.test('the daemon starts, reloads over a new installation, and stops', async () => {
    await using topo = await topology();
    const node = nth(topo.nodes);
    const file = configure(node, SMALL);
    const child = node.ns.spawn([at(COMMAND), 'agent', '--config', file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    assert.ok(child.stdout);
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const heard = async (message: string) => {
      for (;;) {
        const { value, done } = await lines.next();
        assert.ok(!done, `it ended without saying "${message}"`);
        const entry = JSON.parse(value);
        if (entry.msg.startsWith(message)) return entry;
      }
    };
    await heard('ready');
    const status = await node.ns.tryExec(at(COMMAND), 'status', '--config', file);
    assert.equal(status.code, 0, status.stdout);

    await make('install', place);
    configure(node, { ...SMALL, conntrack: { accounting: true } });
    child.kill('SIGHUP');
    await heard('configuration reloaded');

    appendFileSync(at(`${LIBRARY}/bpf/ipv4.bpf.o`), 'another version');
    configure(node, SMALL);
    child.kill('SIGHUP');
    const { reason, hint } = await heard('configuration refused');
    assert.equal(reason, 'another version of the programs has been installed');
    assert.equal(hint, 'needs a restart');

    child.kill('SIGTERM');
    await heard('stopped');
    assert.deepEqual(await ended, [0, null]);
  });

  await t.test('a second installation keeps the configuration', async () => {
    writeFileSync(at(CONFIG), 'log: { level: warn }\n');
    writeFileSync(at(`${LIBRARY}/dist/stale.js`), '');
    assert.match(await make('install', place), /kept .*config\.yaml/);
    assert.equal(readFileSync(at(CONFIG), 'utf8'), 'log: { level: warn }\n');
    assert.ok(!readdirSync(at(`${LIBRARY}/dist`)).includes('stale.js'));
  });

  await t.test('uninstalling leaves the configuration, and what others put beside', async () => {
    const foreign = ['opt/tools/bin/other', 'opt/tools/lib/systemd/system/other.service'];
    for (const path of foreign) writeFileSync(at(path), '');
    assert.match(await make('uninstall', place), /removed .*\nkept .*config\.yaml/);
    assert.deepEqual(filesOf(directory).toSorted(), [CONFIG, ...foreign].toSorted());
    assert.doesNotMatch(await make('uninstall', place), /removed/);
  });

  await t.test('a prefix that no unit could name is refused', async () => {
    await assert.rejects(
      make('install', { ...place, PREFIX: 'relative' }),
      /PREFIX is an absolute/,
    );
    await assert.rejects(make('install', { ...place, PREFIX: '/a|b' }), /PREFIX is an absolute/);
  });
});

/** Files below a directory; the library counts as one. */
function filesOf(directory: string, below = ''): string[] {
  return readdirSync(join(directory, below), { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name);
    return entry.isDirectory() && path !== LIBRARY ? filesOf(directory, path) : [path];
  });
}
