import { constants } from 'node:os';
import { KernelError } from '../lib/errors.ts';
import { libc } from './ffi.ts';

/** Linux errno numbers that the code decides by. */
export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const E2BIG = 7;
export const EWOULDBLOCK = 11;
export const EFAULT = 14;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOSPC = 28;
/** Kernel-internal, and yet what some bpf commands answer: not supported. */
export const ENOTSUPP = 524;

const NAMES = new Map<number, string>([
  ...Object.entries(constants.errno).map(([name, number]): [number, string] => [number, name]),
  [EWOULDBLOCK, 'EAGAIN'],
  [95, 'EOPNOTSUPP'],
  [ENOTSUPP, 'ENOTSUPP'],
]);

type Operation = string | (() => string);

/**
 * Passes a return value through, or throws KernelError for a negative one (-errno).
 * `operation` completes the sentence "cannot …"; a function defers building it.
 */
export function check(result: number, operation: Operation, detail?: string): number {
  if (result < 0) throw kernelError(-result, operation, detail);
  return result;
}

/** `errno` is positive. */
export function kernelError(errno: number, operation: Operation, detail?: string): KernelError {
  return new KernelError({
    operation: typeof operation === 'string' ? operation : operation(),
    errno,
    errnoName: errnoName(errno),
    reason: describe(errno),
    detail,
    ...(errno === EPERM ? PRIVILEGE : {}),
  });
}

export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

const PRIVILEGE = {
  code: 'E_PRIVILEGE',
  hint: 'run it as root, or with CAP_BPF and CAP_NET_ADMIN',
} as const;

function describe(errno: number): string {
  if (errno === ENOTSUPP) return 'operation not supported';
  const text = libc().strerror(errno);
  return text.charAt(0).toLowerCase() + text.slice(1);
}
