import type { Command } from 'commander';
import { nearest } from '../config/suggest.ts';
import type { ResizeResult } from '../engine/resizer.ts';
import { PINNED_AS, SIZED_TABLES, type SizedTable } from '../engine/sizing.ts';
import { SekishoError } from '../lib/errors.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { formatDuration } from '../lib/units.ts';
import { agentClient } from './client.ts';
import type { OutputOptions } from './context.ts';
import { configOf } from './context.ts';
import { createOutput, writeJson, writeLines } from './output.ts';
import { formatTable } from './text-table.ts';

/** A million entries take seconds, and those of a pass that is under way come on top. */
const PATIENCE_MS = 600_000;

/** A table, of one family or of both. */
export interface NamedTable {
  table: SizedTable;
  family?: Family;
}

/** `ctTcp` or `ct_tcp`, as the table is pinned; `ipv4/` before it. Throws E_USAGE. */
export function parseTable(text: string): NamedTable {
  const [first = '', ...rest] = text.split('/');
  const family = FAMILIES.find((name) => name === first);
  const word = family ? rest.join('/') : text;
  const table = SIZED_TABLES.find((name) => name === word || PINNED_AS[name] === word);
  if (table) return { table, ...(family && { family }) };
  const meant = nearest(word.split('/').at(-1) ?? '', SIZED_TABLES);
  throw new SekishoError('E_USAGE', `no table is called ${JSON.stringify(text)}`, {
    hint: `did you mean ${meant}? ${SIZED_TABLES.join(', ')}, or ipv4/${meant} for one family`,
  });
}

/** Throws E_USAGE. */
export function parseEntries(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new SekishoError('E_USAGE', `${JSON.stringify(text)} is no number of entries`, {
    hint: 'a plain number, for example 262144',
  });
}

export async function resizeMap(
  name: string,
  entries: string,
  options: OutputOptions,
  command: Command,
): Promise<void> {
  const order = { ...parseTable(name), entries: parseEntries(entries) };
  const { runDir } = configOf(command).state;
  const result = await agentClient(runDir, PATIENCE_MS).post<{ resizes: ResizeResult[] }>(
    '/v1/maps/resize',
    order,
  );
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, result);
  else await writeLines(out, resizeLines(result.resizes));
}

/** A table of what changed, and a line for what had the size already. */
export function resizeLines(resizes: readonly ResizeResult[]): string[] {
  const changed = resizes.filter(({ status }) => status === 'resized');
  const rows = changed.map(({ family, table, from, to, copied, durationMs }) => [
    `${family}/${table}`,
    from,
    to,
    copied,
    formatDuration(durationMs / 1000),
  ]);
  return [
    ...(rows.length > 0 ? formatTable(['TABLE', 'FROM', 'TO', 'COPIED', 'DURATION'], rows) : []),
    ...resizes
      .filter(({ status }) => status === 'unchanged')
      .map(({ family, table, to }) => `${family}/${table} has ${to} entries already`),
  ];
}
