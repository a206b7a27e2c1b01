import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { probeCapabilities } from '../../agent/kernel/capabilities.ts';
import { isBpffs, lockFile, monotonicNs } from '../../agent/kernel/fs.ts';
import { possibleCpus } from '../../agent/kernel/system.ts';
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

test('a machine without libbpf is told how to get it', { skip: skipReason }, () => {
  possibleCpus();
  const library = /\S*\/libbpf\.so\S*/.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0];
  const module = join(import.meta.dirname, '../../agent/kernel/system.ts');
  const script =
    `import(${JSON.stringify(module)}).then((system) => system.possibleCpus())` +
    '.catch((error) => console.log(error.code, error.hint))';
  const hidden = `mount --bind /dev/null ${library} && exec ${process.execPath} -e '${script}'`;
  const { stdout } = spawnSync('unshare', ['--mount', 'sh', '-c', hidden], { encoding: 'utf8' });
  assert.equal(stdout, 'E_NO_LIBBPF install libbpf1: run make setup\n');
});
