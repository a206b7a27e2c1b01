import type { Command } from 'commander';
import type { Status } from '../daemon/status.ts';
import type { CollectorStatus } from '../engine/collector.ts';
import type { PassResult } from '../engine/pass.ts';
import type { PassRecord, ReliefRecord } from '../engine/records.ts';
import type { PassFailure, Sweep } from '../engine/sweep.ts';
import { SekishoError } from '../lib/errors.ts';
import { formatDuration } from '../lib/units.ts';
import { agentClient, askAgent } from './client.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf, requirePins } from './context.ts';
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
  const swept = await agentClient(runDir).post<Sweep>('/v1/gc/run');
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, swept);
  else await writeLines(out, passLines(swept.passes));
  const error = sweepError(swept.failures);
  if (error) throw error;
}

/** One error for all tables that a pass could not go through; undefined when there is none. */
export function sweepError(failures: readonly PassFailure[]): SekishoError | undefined {
  const [first] = failures;
  if (!first) return undefined;
  const reasons = failures.map(({ family, table, message }) => `${family}/${table}: ${message}`);
  return new SekishoError(first.code, `collection failed in ${reasons.join('; ')}`);
}

async function status(options: OutputOptions, command: Command): Promise<void> {
  const { bpffs, runDir } = configOf(command).state;
  const gc = (await askAgent<Status>(runDir, '/v1/status'))?.gc;
  if (!gc) requirePins(bpffs);
  const out = createOutput();
  if (options.output === 'json') return writeJson(out, gc ?? null);
  if (!gc) return writeLines(out, ['the agent is not running: no pass until it is started']);
  const now = Date.now();
  await writeLines(out, [
    scheduleLine(gc, now),
    ...passLines(gc.passes),
    '',
    ...historyLines(gc.history, now),
    ...reliefLines(gc.reliefs, now),
  ]);
}

/** When the collector runs; `now` in milliseconds since the epoch. */
export function scheduleLine(gc: CollectorStatus, now: number): string {
  const last = gc.lastRun === undefined ? 'never' : `${since(gc.lastRun, now)} ago`;
  const next = gc.nextRun === undefined ? '' : `, next in ${since(now, gc.nextRun)}`;
  return `every ${formatDuration(gc.intervalSeconds)}, ${gc.runs} so far, last ${last}${next}`;
}

/** A table of passes over tables. */
function passLines(passes: readonly PassResult[]): string[] {
  const rows = passes.map((pass) => [
    `${pass.family}/${pass.table}`,
    pass.alive,
    `${((100 * pass.alive) / pass.capacity).toFixed(1)}%`,
    pass.deleted + pass.natDeleted,
    pass.skipped,
    pass.completed,
    pass.evicted,
    formatDuration(pass.durationMs / 1000),
  ]);
  return formatTable(
    ['TABLE', 'ALIVE', 'FILL', 'DELETED', 'SKIPPED', 'COMPLETED', 'EVICTED', 'DURATION'],
    rows,
  );
}

/** The last passes, each with why it was made. */
export function historyLines(history: readonly PassRecord[], now: number): string[] {
  const rows = history.map(({ at, reasons, status, deleted, durationMs, ...record }) => [
    `${since(at, now)} ago`,
    reasons.join(', '),
    record.error ? `${status}: ${record.error}` : status,
    deleted,
    formatDuration(durationMs / 1000),
    formatDuration(record.intervalSeconds),
  ]);
  return formatTable(['PASS', 'REASONS', 'STATUS', 'DELETED', 'DURATION', 'INTERVAL'], rows);
}

/** The last times that room was made; nothing when that was never needed. */
export function reliefLines(reliefs: readonly ReliefRecord[], now: number): string[] {
  if (reliefs.length === 0) return [];
  const rows = reliefs.map(({ at, family, table, before, capacity, deleted, durationMs }) => [
    `${since(at, now)} ago`,
    `${family}/${table}`,
    `${((100 * before) / capacity).toFixed(1)}%`,
    Object.entries(deleted)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ') || 'none',
    formatDuration(durationMs / 1000),
  ]);
  return ['', ...formatTable(['RELIEF', 'TABLE', 'FILL', 'DELETED', 'DURATION'], rows)];
}

function since(from: number, to: number): string {
  return formatDuration(Math.max(0, Math.round((to - from) / 1000)));
}
