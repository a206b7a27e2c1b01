import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';

const MARK = 'SEKISHO_TEST_NAMESPACE';

/** Why tests that need the kernel cannot run here, or false. */
export const skipReason = process.getuid?.() === 0 ? false : 'needs root';

/** Whether this kernel's version is below `major.minor`. */
export function isOlderThan(major: number, minor: number): boolean {
  const [ofKernel = 0, minorOfKernel = 0] = release().split('.').map(Number.parseFloat);
  return ofKernel === major ? minorOfKernel < minor : ofKernel < major;
}

/** A BPF file system of the test's own. */
export function mountBpffs(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'sekisho-bpffs-'));
  execFileSync('mount', ['-t', 'bpf', 'bpf', path]);
  return {
    path,
    [Symbol.dispose]() {
      execFileSync('umount', [path]);
      rmdirSync(path);
    },
  };
}

/** Whether this process already runs in a network namespace of the test's own. */
export function inOwnNamespace(): boolean {
  return process.env[MARK] === '1';
}

/** Runs a test file again in a fresh network namespace; its report when it fails. */
export function runInOwnNamespace(file: string): string | undefined {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['--net', '--mount', process.execPath, '--test', '--test-reporter=spec', file],
    { env: { ...env, [MARK]: '1' }, encoding: 'utf8' },
  );
  return status === 0 ? undefined : `${stdout}\n${stderr}`;
}
