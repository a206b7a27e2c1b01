import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  statfsSync,
  statSync,
  unlinkSync,
} from 'node:fs';
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
  return lock(openSync(path, 'a', 0o600), path);
}

/**
 * The same for something that is there: a directory, or a namespace under `/proc/PID/ns`, which
 * is one and the same for all that are in it.
 */
export function lockPath(path: string): Disposable | undefined {
  return lock(openSync(path, 'r'), path);
}

/** Takes the descriptor over. A directory that was removed meanwhile would lock out nobody. */
function lock(fd: number, path: string): Disposable | undefined {
  const errno = libc().flock(fd, LOCK_EX_NB) === 0 ? 0 : lastErrno();
  if (errno === 0 && fstatSync(fd).nlink > 0) return { [Symbol.dispose]: () => closeSync(fd) };
  closeSync(fd);
  if (errno === 0 || errno === EWOULDBLOCK) return undefined;
  throw kernelError(errno, `lock ${path}`);
}

/** The process that holds the lock on a path; undefined when that cannot be told. */
export function lockHolder(path: string): number | undefined {
  try {
    const inode = `:${statSync(path, { bigint: true }).ino}`;
    const locks = readFileSync('/proc/locks', 'utf8').split('\n');
    const fields = locks.map((line) => line.trim().split(/\s+/));
    const held = fields.find((field) => field[1] === 'FLOCK' && field[5]?.endsWith(inode));
    return Number(held?.[4]) || undefined;
  } catch {
    return undefined;
  }
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
