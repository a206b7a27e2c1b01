import { totalmem } from 'node:os';
import type { Command } from 'commander';
import { checkConfig, readConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { configJsonSchema } from '../config/schema.ts';
import { mapMemory, SIZED_TABLES, sizeMaps } from '../engine/sizing.ts';
import { SekishoError } from '../lib/errors.ts';
import { formatBytes } from '../lib/units.ts';
import { rejectedServices } from '../services/config-facts.ts';
import type { GlobalOptions, OutputOptions } from './context.ts';
import { addOutputOption } from './context.ts';
import { createOutput, writeJson, writeLines } from './output.ts';
import type { Cell } from './text-table.ts';
import { formatTable } from './text-table.ts';

export function register(program: Command): void {
  const config = program.command('config').description('check the configuration');
  addOutputOption(config.command('check [file]'))
    .description('validate a file; print the table sizes it leads to and their memory')
    .action(check);
  addOutputOption(config.command('schema'))
    .description('print the JSON Schema of the file, for editors')
    .action(() => writeJson(createOutput(), configJsonSchema()));
}

async function check(
  named: string | undefined,
  options: OutputOptions,
  command: Command,
): Promise<void> {
  const file = named ?? command.optsWithGlobals<GlobalOptions>().config;
  if (file === undefined) {
    throw new SekishoError('E_USAGE', 'config check takes a file', {
      hint: 'sekisho config check /etc/sekisho/config.yaml',
    });
  }
  const { config, errors } = checkConfig(readConfig(file), file);
  const out = createOutput();
  if (config === undefined) process.exitCode = 1;
  if (options.output === 'json') {
    const problems = errors.map(({ line, column, path, message }) => ({
      line,
      column,
      path,
      message,
    }));
    const sizes = config === undefined ? {} : sizesJson(config);
    await writeJson(out, { file, valid: config !== undefined, problems, ...sizes });
  } else if (config === undefined) {
    for (const { message } of errors) process.stderr.write(`${message}\n`);
  } else {
    await writeLines(out, [`${file}: valid`, ...warnings(file, config), ...sizeLines(config)]);
  }
}

function warnings(file: string, config: Config): string[] {
  return rejectedServices(config).map((warning) => `${file}: warning: ${warning}`);
}

function sizesJson(config: Config) {
  const sizes = sizeMaps(config.maps, totalmem());
  const maps = SIZED_TABLES.map((name) => ({
    name,
    entries: sizes[name],
    memory: {
      ipv4: mapMemory(name, 'ipv4', sizes[name]),
      ipv6: mapMemory(name, 'ipv6', sizes[name]),
    },
  }));
  const memory = maps.reduce((bytes, map) => bytes + map.memory.ipv4 + map.memory.ipv6, 0);
  return { warnings: rejectedServices(config), maps, memory, totalMemory: totalmem() };
}

function sizeLines(config: Config): string[] {
  const { maps, memory, totalMemory } = sizesJson(config);
  const rows: Cell[][] = maps.map(({ name, entries, memory: { ipv4, ipv6 } }) => [
    name,
    String(entries),
    formatBytes(ipv4),
    formatBytes(ipv6),
    formatBytes(ipv4 + ipv6),
  ]);
  const share = ((100 * memory) / totalMemory).toFixed(2);
  rows.push([
    'total',
    '',
    '',
    '',
    `${formatBytes(memory)} (${share}% of ${formatBytes(totalMemory)})`,
  ]);
  return formatTable(['MAP', 'ENTRIES', 'IPV4', 'IPV6', 'MEMORY'], rows);
}
