import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Where `make setup` puts it: the package would start a server too. */
const FETCHED = join(import.meta.dirname, '../../build/tools/promtool');
const PROGRAM = existsSync(FETCHED) ? FETCHED : 'promtool';

/** Why tests that ask promtool cannot run here, or false. */
export const withoutPromtool = spawnSync(PROGRAM, ['--version']).error
  ? 'promtool is not there: make setup fetches it where the distribution has it'
  : false;

export interface Verdict {
  status: number | null;
  /** Whatever it printed. */
  said: string;
}

/** Runs promtool; paths are relative to the project. */
export function promtool(args: string[], input = ''): Verdict {
  const cwd = join(import.meta.dirname, '../..');
  const { status, stdout, stderr } = spawnSync(PROGRAM, args, { cwd, input, encoding: 'utf8' });
  return { status, said: stdout + stderr };
}
