import { run } from '../lib/command.ts';
import { CPU } from './live/tools.ts';

const LIMIT = 600_000;

/**
 * Runs a program in a network and mount namespace of its own, on the CPU that is measured or, with
 * `everyCpu`, on all of them. Resolves with the JSON it prints.
 */
export async function inIsolation<T>(program: string, { everyCpu = false } = {}): Promise<T> {
  const pin = everyCpu ? [] : ['taskset', '-c', String(CPU.measured)];
  const apart = ['unshare', '--net', '--mount', '--propagation', 'private'];
  const { stdout } = await run([...pin, ...apart, process.execPath, program], { limit: LIMIT });
  return JSON.parse(stdout) as T;
}
