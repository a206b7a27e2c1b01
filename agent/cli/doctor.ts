import type { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import type { GlobalOptions, OutputOptions } from './context.ts';
import { addOutputOption } from './context.ts';
import type { Check } from './doctor-checks.ts';
import { checkMachine } from './doctor-checks.ts';
import { createOutput, writeJson, writeLines } from './output.ts';

export function register(program: Command): void {
  addOutputOption(program.command('doctor'))
    .description('what this machine has and lacks, with the fix for each')
    .action(doctor);
}

async function doctor(options: OutputOptions, command: Command): Promise<void> {
  const { config } = command.optsWithGlobals<GlobalOptions>();
  const checks = await checkMachine(() => loadConfig(config));
  const isReady = checks.every(({ ok, required }) => ok || !required);
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, { ready: isReady, checks });
  else await writeLines(out, checkLines(checks));
  if (!isReady) process.exitCode = 1;
}

/** One line per check, its fix after those that failed, and a summary. */
function checkLines(checks: readonly Check[]): string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.map(({ name, ok, required, detail, fix }) => {
    const mark = ok ? 'ok     ' : required ? 'MISSING' : 'lacks  ';
    return `${mark}  ${name.padEnd(width)}  ${detail}${ok ? '' : `; ${fix}`}`;
  });
  const missing = checks.filter(({ ok, required }) => !ok && required).length;
  const summary =
    missing === 0 ? 'this machine can run sekisho' : `${missing} required: see MISSING above`;
  return [...lines, summary];
}
