import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { probeCapabilities } from '../../agent/kernel/capabilities.ts';
import { isBpffs, lockFile, monotonicNs } from '../../agent/kernel/fs.ts';
import { mountBpffs, skipReason } from './sandbox.ts';

test('probing answers for every capability', { skip: skipReason }, () => {
  const found = probeCapabilities();
  assert.equal(found.bpfPrivilege, true);
  assert.equal(found.syscallPrograms, true);
  assert.ok(found.possibleCpus >= 1);
  assert.ok([100, 250, 300, 1000].includes(found.hz), `hz ${found.hz}`);
});

test('a BPF file system is told from any other', { skip: skipReason }, () => {
  using bpffs = mountBpffs();
  assert.equal(isBpffs(bpffs.path), true);
  assert.equal(isBpffs(tmpdir()), false);
  assert.equal(isBpffs(join(tmpdir(), 'sekisho-no-such-directory')), false);
});

test('a lock has one holder, also across processes', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sekisho-lock-'));
  const path = join(directory, 'lock');
  const tryElsewhere = () => spawnSync('flock', ['--nonblock', path, 'true']).status;
  {
    using held = lockFile(path);
    assert.ok(held);
    assert.equal(lockFile(path), undefined);
    assert.equal(tryElsewhere(), 1);
  }
  assert.equal(tryElsewhere(), 0);
  rmSync(directory, { recursive: true });
});

test('the clock does not run backwards', () => {
  const before = monotonicNs();
  assert.ok(monotonicNs() >= before);
});
