import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..', '..');

/** What figures are worth nothing without. */
export interface Machine {
  cpu: string;
  cores: number;
  memoryBytes: number;
  kernel: string;
  mitigations: string;
  bpfJit: string;
  /** Before the first measurement: work of others disturbs every figure. */
  load1: number;
  conntrack: { max: string; buckets: string };
  versions: Record<string, string>;
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    mitigations: read('/sys/devices/system/cpu/vulnerabilities/spectre_v2'),
    bpfJit: read('/proc/sys/net/core/bpf_jit_enable'),
    load1: loadavg()[0] ?? 0,
    conntrack: {
      max: read('/proc/sys/net/netfilter/nf_conntrack_max'),
      buckets: read('/proc/sys/net/netfilter/nf_conntrack_buckets'),
    },
    versions: {
      commit: output('git', '-C', ROOT, 'describe', '--always', '--dirty'),
      node: process.version,
      nft: output('nft', '--version'),
      ip: output('ip', '-V'),
      clang: output(process.env.CLANG ?? 'clang-19', '--version'),
    },
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

function output(command: string, ...args: string[]): string {
  try {
    const text = execFileSync(command, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return text.split('\n')[0] ?? '';
  } catch {
    return 'unknown';
  }
}
