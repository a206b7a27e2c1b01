import type { Command } from 'commander';
import { formatDuration } from '../lib/units.ts';
import { agentClient } from './client.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf } from './context.ts';
import { createOutput, writeJson, writeLines } from './output.ts';
import { formatTable } from './text-table.ts';

interface Pass {
  family: string;
  table: string;
  alive: number;
  deleted: number;
  skipped: number;
  durationMs: number;
}

export function register(program: Command): void {
  const gc = program.command('gc').description('garbage collection');
  addOutputOption(gc.command('run')).description('one pass now, with its figures').action(run);
}

async function run(options: OutputOptions, command: Command): Promise<void> {
  const { runDir } = configOf(command).state;
  const result = await agentClient(runDir).post<{ passes: Pass[] }>('/v1/gc/run');
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, result);
  else await writeLines(out, passLines(result.passes));
}

/** A table of passes. */
export function passLines(passes: readonly Pass[]): string[] {
  const rows = passes.map(({ family, table, alive, deleted, skipped, durationMs }) => [
    `${family}/${table}`,
    alive,
    deleted,
    skipped,
    formatDuration(durationMs / 1000),
  ]);
  return formatTable(['TABLE', 'ALIVE', 'DELETED', 'SKIPPED', 'DURATION'], rows);
}
