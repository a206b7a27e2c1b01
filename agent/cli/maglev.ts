import type { Command } from 'commander';
import { askServices } from './ask-services.ts';
import { pinnedTable } from './backend-table.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf, requirePins } from './context.ts';
import { describeTable, type ListedTable, type NamedTable, tablesText } from './maglev-view.ts';
import { createOutput, writeJsonArray, writeLines } from './output.ts';
import { chooseService, noService } from './service-choice.ts';
import type { ServicePart } from './service-detail.ts';
import { readParts } from './service-parts.ts';

export function register(program: Command): void {
  const maglev = program.command('maglev').description('lookup tables of services');
  addOutputOption(maglev.command('show <id>'))
    .description('print the table of a service, by number or name; all slots with -o json')
    .action(show);
}

async function show(word: string, options: OutputOptions, command: Command): Promise<void> {
  const config = configOf(command);
  const { bpffs } = config.state;
  requirePins(bpffs);
  const known = await askServices(config);
  const { ids } = chooseService(word, known);
  const parts = await readParts(bpffs, ids, known);
  if (parts.length === 0) throw noService(word);
  const tables = parts.flatMap((part) => tablesOf(bpffs, part));
  const out = createOutput();
  if (options.output === 'json') await writeJsonArray(out, tables);
  else if (tables.length > 0) await writeLines(out, tablesText(tables));
  else await writeLines(out, [`service ${word} has no table: it has no backend to choose`]);
}

function tablesOf(bpffs: string, { service, backends }: ServicePart): ListedTable[] {
  const { id, family } = service;
  if (id === null || family === null) return [];
  const external = pinnedTable(bpffs, family, id, 'external');
  const internal = pinnedTable(bpffs, family, id, 'internal');
  const tables: NamedTable[] = [];
  if (external) tables.push({ scope: internal ? 'external' : 'both', table: external });
  if (internal) tables.push({ scope: 'internal', table: internal });
  return tables.map((table) => describeTable(service, backends, table));
}
