import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { tryRun } from '../lib/command.ts';
import { make } from '../lib/install.ts';

const BOOT = join(import.meta.dirname, '../lib/systemd/boot.sh');
const UNIT = 'usr/local/lib/systemd/system/sekisho.service';
/** Points of `systemd-analyze security`, times ten. */
const EXPOSURE = '25';
const NOT_ALLOWED = 77;

/** CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF. */
const CAPABILITIES = ((1n << 12n) | (1n << 38n) | (1n << 39n)).toString(16).padStart(16, '0');

const lacks = (command: string) =>
  spawnSync(command, ['--version']).error ? `${command} is not installed` : false;

test('the unit', { skip: lacks('systemd-analyze') }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `skt-${process.pid}-unit-`));
  t.after(() => rmSync(directory, { recursive: true }));
  const installed = join(directory, 'installed');
  await make('install', { DESTDIR: installed });
  const unit = join(directory, 'sekisho.service');
  const text = readFileSync(join(installed, UNIT), 'utf8');
  writeFileSync(unit, text.replaceAll('/usr/local/bin/', join(installed, 'usr/local/bin/')));

  await t.test('has nothing that systemd does not know', async () => {
    const { code, stderr } = await tryRun(['systemd-analyze', 'verify', '--man=no', unit]);
    assert.equal(stderr, '');
    assert.equal(code, 0);
  });

  await t.test('leaves the daemon little to do harm with', async () => {
    const command = ['systemd-analyze', 'security', '--offline=true', `--threshold=${EXPOSURE}`];
    const { code, stdout } = await tryRun([...command, unit]);
    assert.equal(code, 0, stdout);
  });

  await t.test(
    'carries the daemon through its life',
    {
      skip: lacks('systemd-nspawn'),
    },
    async (t) => {
      mkdirSync(join(directory, 'out'));
      const enter = ['unshare', '--mount', '--net', '--propagation', 'private'];
      const { code, stdout, stderr } = await tryRun([...enter, BOOT, directory, installed], {
        limit: 180_000,
      });
      if (code === NOT_ALLOWED) {
        t.skip(stderr.trim());
        return;
      }
      assert.equal(code, 0, `${stdout}${stderr}`);
      const log = readFileSync(join(directory, 'out/log'), 'utf8');
      t.diagnostic(log.replaceAll('\n', '; '));
      assert.deepEqual(saidBy(log), {
        start: '0',
        state: 'active',
        status: 'serving 0 endpoints on eth0',
        healthy: '0',
        capabilities: CAPABILITIES,
        privileges: '1',
        links: '4',
        rings: '2',
        reload: '0',
        reloaded: 'applied',
        'wrong-reload': '1',
        'state-after-wrong-reload': 'active',
        restarts: '1',
        'healthy-again': '0',
        stop: '0',
        result: 'success',
        'state-after-stop': 'inactive',
        'links-after-stop': '4',
        'maps-after-stop': '1',
        'run-directory': 'agent.lock endpoints.json',
        'start-again': '0',
      });
    },
  );
});

function saidBy(log: string): Record<string, string> {
  const lines = log.split('\n').filter((line) => /^[a-z-]+: /.test(line));
  return Object.fromEntries(
    lines.map((line) => [
      line.slice(0, line.indexOf(':')),
      line.slice(line.indexOf(':') + 2).trim(),
    ]),
  );
}
