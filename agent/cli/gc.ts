import type { Command } from 'commander';
import type { Status } from '../daemon/status.ts';
import type { CollectorStatus } from '../engine/collector.ts';
import type { PassResult } from '../engine/pass.ts';
import { formatDuration } from '../lib/units.ts';
import { agentClient } from './client.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf } from './context.ts';
import { createOutput, writeJson, writeLines } from './output.ts';
import { formatTable } from './text-table.ts';

export function register(program: Command): void {
  const gc = program.command('gc').description('garbage collection');
  addOutputOption(gc.command('run')).description('one pass now, with its figures').action(run);
  addOutputOption(gc.command('status'))
    .description('last passes, next run, interval')
    .action(status);
}

async function run(options: OutputOptions, command: Command): Promise<void> {
  const { runDir } = configOf(command).state;
  const result = await agentClient(runDir).post<{ passes: PassResult[] }>('/v1/gc/run');
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, result);
  else await writeLines(out, passLines(result.passes));
}

async function status(options: OutputOptions, command: Command): Promise<void> {
  const { runDir } = configOf(command).state;
  const { gc } = await agentClient(runDir).get<Status>('/v1/status');
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, gc);
  else await writeLines(out, [scheduleLine(gc, Date.now()), ...passLines(gc.passes)]);
}

/** When the collector runs; `now` in milliseconds since the epoch. */
export function scheduleLine(gc: CollectorStatus, now: number): string {
  const last = gc.lastRun === undefined ? 'never' : `${since(gc.lastRun, now)} ago`;
  const next = gc.nextRun === undefined ? '' : `, next in ${since(now, gc.nextRun)}`;
  return `every ${formatDuration(gc.intervalSeconds)}, ${gc.runs} so far, last ${last}${next}`;
}

/** A table of passes. */
function passLines(passes: readonly PassResult[]): string[] {
  const rows = passes.map(({ family, table, alive, deleted, skipped, durationMs }) => [
    `${family}/${table}`,
    alive,
    deleted,
    skipped,
    formatDuration(durationMs / 1000),
  ]);
  return formatTable(['TABLE', 'ALIVE', 'DELETED', 'SKIPPED', 'DURATION'], rows);
}

function since(from: number, to: number): string {
  return formatDuration(Math.max(0, Math.round((to - from) / 1000)));
}
