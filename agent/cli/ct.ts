import { join } from 'node:path';
import type { Command } from 'commander';
import { walkConntrack } from '../tables/conntrack.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, pinsOf } from './context.ts';
import { countConntrack } from './ct-count.ts';
import { conntrackJson, formatConntrack } from './ct-format.ts';
import type { FilterOptions } from './filter.ts';
import { addFilterOptions, compileFilter } from './filter.ts';
import { createFlusher, flushedLine } from './flush.ts';
import { createOutput, jsonArrayWriter, lineWriter, writeJsonArray, writeLines } from './output.ts';
import { clockOf, conntrackTables, matching, pinnedFamilies, visitConntrack } from './rows.ts';
import { formatTable } from './text-table.ts';

type ListOptions = FilterOptions & OutputOptions & { timeDiff?: boolean };

export function register(program: Command): void {
  const ct = program.command('ct').description('connection tracking tables');
  addOutputOption(addFilterOptions(ct.command('list')))
    .description('print the entries')
    .option('-d, --time-diff', 'say how long each entry has left')
    .action(list);
  addFilterOptions(ct.command('flush'))
    .description('delete entries together with their NAT entries')
    .action(flush);
  addOutputOption(addFilterOptions(ct.command('count')))
    .description('count entries by protocol, kind and state')
    .action(count);
}

async function list(options: ListOptions, command: Command): Promise<void> {
  const filter = compileFilter(options);
  const bpffs = pinsOf(command);
  const now = clockOf(bpffs);
  const out = createOutput();
  if (options.output === 'json') {
    const json = jsonArrayWriter(out);
    await visitConntrack(bpffs, filter, (tuple, entry) =>
      json.write(conntrackJson(tuple, entry, now)),
    );
    await json.end();
    return;
  }
  const shown = options.timeDiff ? now : undefined;
  const text = lineWriter(out);
  await visitConntrack(bpffs, filter, (tuple, entry) =>
    text.write(formatConntrack(tuple, entry, shown)),
  );
  await text.end();
}

async function flush(options: FilterOptions, command: Command): Promise<void> {
  const filter = compileFilter(options);
  const bpffs = pinsOf(command);
  const out = createOutput();
  const { loadReaper } = await import('../engine/reap.ts');
  for (const family of pinnedFamilies(bpffs, filter)) {
    using reaper = loadReaper(bpffs, family);
    let natDeleted = 0;
    for (const table of conntrackTables(filter)) {
      const flusher = createFlusher(reaper, family, table);
      await walkConntrack(
        bpffs,
        family,
        table,
        matching(filter, (tuple) => flusher.add(tuple)),
      );
      const done = await flusher.end();
      natDeleted += done.natDeleted;
      await writeLines(out, [flushedLine(done.deleted, join(bpffs, family, table))]);
    }
    await writeLines(out, [flushedLine(natDeleted, join(bpffs, family, 'snat'))]);
  }
}

async function count(options: FilterOptions & OutputOptions, command: Command): Promise<void> {
  const filter = compileFilter(options);
  const bpffs = pinsOf(command);
  const counter = countConntrack(clockOf(bpffs));
  await visitConntrack(bpffs, filter, (tuple, entry) => void counter.add(tuple, entry));
  const counts = counter.counts();
  const out = createOutput();
  if (options.output === 'json') {
    await writeJsonArray(out, counts);
    return;
  }
  const rows = counts.map((row) => [row.family, row.protocol, row.kind, row.state, row.count]);
  const total = counts.reduce((sum, row) => sum + row.count, 0);
  const heading = ['FAMILY', 'PROTOCOL', 'KIND', 'STATE', 'COUNT'];
  await writeLines(out, [...formatTable(heading, rows), `total ${total}`]);
}
