import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

/** What make is to build first. */
export const WATCHPOINT = 'build/test/watchpoint';

/**
 * Runs a pinned BPF program of type `perf_event` whenever this thread writes to eight bytes of the
 * kernel's memory, until disposed. Nothing runs while the kernel handles a system call that changes
 * a map.
 */
export async function runAtWrites(program: string, address: bigint): Promise<AsyncDisposable> {
  const args = [program, address.toString(16), `${process.pid}`];
  const child = spawn(join(ROOT, WATCHPOINT), args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const isReady = await Promise.race([
    once(child.stdout, 'data').then(() => true),
    ended.then(() => false),
  ]);
  if (!isReady) throw new Error(`watchpoint: ${complaint.trim()}`);
  return {
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
    },
  };
}
