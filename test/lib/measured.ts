import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface Measured {
  seconds: number;
  /** Peak resident memory, in megabytes. */
  megabytes: number;
}

/** Runs a command with its output to /dev/null; rejects when it fails. */
export async function measureCommand(file: string, args: readonly string[]): Promise<Measured> {
  const begun = performance.now();
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = Promise.withResolvers<number | null>();
  child.once('error', ended.reject);
  child.once('close', ended.resolve);
  const megabytes = await peakUntil(child, ended.promise);
  const status = await ended.promise;
  if (status !== 0) throw new Error(`${file} ${args.join(' ')} ended with ${status}`);
  return { seconds: (performance.now() - begun) / 1000, megabytes };
}

/** High water of a process's resident memory so far, in megabytes; 0 when it is gone. */
export function peakMemory(pid: number | undefined): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return (Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0) * 1024) / 1e6;
  } catch {
    return 0;
  }
}

/** The high water only rises, so that what was read last is near the truth. */
async function peakUntil({ pid }: ChildProcess, ended: Promise<unknown>): Promise<number> {
  let running = true;
  const watched = ended.finally(() => {
    running = false;
  });
  let peak = 0;
  while (running) {
    peak = Math.max(peak, peakMemory(pid));
    await Promise.race([watched, delay(10)]);
  }
  return peak;
}
