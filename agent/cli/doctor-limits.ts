import { totalmem } from 'node:os';
import type { Config } from '../config/schema.ts';
import { sizeMaps, totalMapMemory } from '../engine/sizing.ts';
import { formatBytes } from '../lib/units.ts';
import type { Check } from './doctor-checks.ts';
import { readProc } from './proc.ts';

/** Maps, sockets and what a change holds for a moment, with room to spare. */
const LEAST_OPEN_FILES = 1024;

/** What may run short: files, memory; and programs that would be interpreted. */
export function limitChecks(configOf: () => Config): Check[] {
  return [jit(), openFiles(), ...mapMemory(configOf)];
}

/** A kernel with nothing but the JIT does not say; nor do namespaces other than the first. */
function jit(): Check {
  const value = readProc('/proc/sys/net/core/bpf_jit_enable');
  const detail = `net.core.bpf_jit_enable = ${value}`;
  const fix = 'sysctl -w net.core.bpf_jit_enable=1; programs are interpreted without';
  return { name: 'BPF JIT', ok: value !== '0', required: false, detail, fix };
}

function openFiles(): Check {
  const limit = /^Max open files +(\S+)/m.exec(readProc('/proc/self/limits'))?.[1] ?? 'unknown';
  const ok = !(Number(limit) < LEAST_OPEN_FILES);
  const fix = `ulimit -n ${LEAST_OPEN_FILES}, or LimitNOFILE= of the unit`;
  return { name: 'open files', ok, required: false, detail: `at most ${limit}`, fix };
}

/** Of the tables as the configuration sizes them; nothing to tell of without one. */
function mapMemory(configOf: () => Config): Check[] {
  try {
    const needed = totalMapMemory(sizeMaps(configOf().maps, totalmem()));
    const kib = /^MemAvailable: +(\d+) kB/m.exec(readProc('/proc/meminfo'))?.[1];
    const available = 1024 * Number(kib ?? Number.NaN);
    const detail = `the tables take ${formatBytes(needed)} of ${formatBytes(available)} that are free`;
    const fix = 'lower maps.memoryRatio, or the sizes under maps:';
    return [{ name: 'memory', ok: !(needed > available), required: false, detail, fix }];
  } catch {
    return [];
  }
}
