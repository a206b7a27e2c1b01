import { check } from './error.ts';
import { libbpf, libc } from './ffi.ts';

const CLOCK_MONOTONIC_COARSE = 6;

let cpus: number | undefined;

/** CPUs that per-CPU maps keep a value for, whether online or not. */
export function possibleCpus(): number {
  cpus ??= check(libbpf().libbpf_num_possible_cpus(), 'count the possible CPUs');
  return cpus;
}

/** Bytes. */
export function pageSize(): number {
  return libc().getpagesize();
}

/** Jiffies per second: the coarse clock ticks once a jiffy, and tells its resolution. */
export function jiffiesPerSecond(): number {
  const resolution = new BigUint64Array(2);
  check(libc().clock_getres(CLOCK_MONOTONIC_COARSE, resolution), 'read the clock resolution');
  return Math.round(1e9 / Number(resolution[1]));
}
