import type { Command } from 'commander';
import { formatBytes } from '../lib/units.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, pinsOf } from './context.ts';
import { resizeMap } from './map-resize.ts';
import type { MapStats } from './map-stats.ts';
import { readMapStats } from './map-stats.ts';
import { createOutput, writeJsonArray, writeLines } from './output.ts';
import { formatTable } from './text-table.ts';

export function register(program: Command): void {
  const map = program.command('map').description('maps and their fill');
  addOutputOption(map.command('list')).description('print every pinned map').action(list);
  addOutputOption(map.command('resize <name> <entries>'))
    .description('give a table another size, connections kept (ctTcp, ctAny, nat; ipv4/nat)')
    .action(resizeMap);
}

async function list(options: OutputOptions, command: Command): Promise<void> {
  const stats = await readMapStats(pinsOf(command));
  const out = createOutput();
  if (options.output === 'json') await writeJsonArray(out, stats);
  else await writeLines(out, mapLines(stats));
}

const HEADING = [
  'NAME',
  'TYPE',
  'ENTRIES',
  'CAPACITY',
  'PRESSURE',
  'MEMORY',
  'CREATED',
  'EVICTED',
] as const;

/** A table of maps; `-` stands where a figure makes no sense. */
export function mapLines(stats: readonly MapStats[]): string[] {
  const rows = stats.map((map) => [
    map.name,
    map.type,
    map.entries ?? '-',
    map.capacity,
    map.pressure === null ? '-' : `${map.pressure.toFixed(2)}%`,
    formatBytes(map.memory),
    map.created ?? '-',
    map.evicted ?? '-',
  ]);
  return formatTable(HEADING, rows);
}
