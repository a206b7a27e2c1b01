import { closeSync, openSync, statfsSync, unlinkSync } from 'node:fs';
import { SekishoError } from '../lib/errors.ts';
import { EWOULDBLOCK, kernelError } from './error.ts';
import { lastErrno, libc } from './ffi.ts';

const BPF_FS_MAGIC = 0xcafe4a11;
const LOCK_EX_NB = 2 | 4;

/** Whether a directory lies on a BPF file system; false also when it does not exist. */
export function isBpffs(directory: string): boolean {
  try {
    return statfsSync(directory).type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}

/** Removes a pin; false when there was none. */
export function unpin(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Takes the exclusive lock on a file, created when missing. Undefined while another process
 * holds it. The kernel releases it with the process, however that ends.
 */
export function lockFile(path: string): Disposable | undefined {
  const fd = openSync(path, 'a', 0o600);
  if (libc().flock(fd, LOCK_EX_NB) === 0) return { [Symbol.dispose]: () => closeSync(fd) };
  const errno = lastErrno();
  closeSync(fd);
  if (errno === EWOULDBLOCK) return undefined;
  throw kernelError(errno, `lock ${path}`);
}

/** Runs `action`; throws E_PRIVILEGE where the file system refuses this user. */
export function withPrivilege<T>(action: () => T): T {
  try {
    return action();
  } catch (cause) {
    const { code, path } = cause as NodeJS.ErrnoException;
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') throw cause;
    throw new SekishoError('E_PRIVILEGE', `cannot write ${path}`, {
      cause,
      hint: 'run it as root',
    });
  }
}

/** CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns`. */
export function monotonicNs(): bigint {
  return process.hrtime.bigint();
}
