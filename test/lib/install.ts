import { join } from 'node:path';
import { run } from './command.ts';

const ROOT = join(import.meta.dirname, '../..');

/** `make install` or `make uninstall`; what it says. */
export async function make(
  verb: 'install' | 'uninstall',
  settings: Record<'DESTDIR', string> & { PREFIX?: string },
): Promise<string> {
  const variables = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  const { stdout } = await run(['make', '--no-print-directory', verb, ...variables], { cwd: ROOT });
  return stdout;
}
