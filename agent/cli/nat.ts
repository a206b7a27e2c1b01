import { join } from 'node:path';
import type { Command } from 'commander';
import { kind as KIND, type Tuple } from '../abi/generated.ts';
import { SekishoError } from '../lib/errors.ts';
import { walkNat } from '../tables/snat.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf, pinsOf, requirePins } from './context.ts';
import type { FilterOptions } from './filter.ts';
import { addFilterOptions, compileFilter } from './filter.ts';
import { createFlusher, flushedLine } from './flush.ts';
import { formatNat, natJson } from './nat-format.ts';
import { otherHalf } from './nat-pair.ts';
import { countPorts, type PortUse } from './nat-ports.ts';
import { portRanges } from './nat-ranges.ts';
import { attemptLines, sumAttempts } from './nat-retries.ts';
import {
  createOutput,
  jsonArrayWriter,
  lineWriter,
  writeJson,
  writeJsonArray,
  writeLines,
} from './output.ts';
import { clockOf, matching, pinnedFamilies, visitNat } from './rows.ts';
import { type Cell, tableLines } from './text-table.ts';

export function register(program: Command): void {
  const nat = program.command('nat').description('source NAT table and its ports');
  addOutputOption(addFilterOptions(nat.command('list')))
    .description('print the entries')
    .action(list);
  addFilterOptions(nat.command('flush'))
    .description('delete entries, both halves of a pair')
    .action(flush);
  addOutputOption(addFilterOptions(nat.command('ports')))
    .description('ports in use towards each destination, the fullest first')
    .option('--top <count>', 'print that many lines')
    .action(ports);
  addOutputOption(nat.command('retries'))
    .description('how many attempts the allocation of a port took')
    .action(retries);
}

async function list(options: FilterOptions & OutputOptions, command: Command): Promise<void> {
  const filter = compileFilter(options);
  const bpffs = pinsOf(command);
  const now = clockOf(bpffs);
  const out = createOutput();
  if (options.output === 'json') {
    const json = jsonArrayWriter(out);
    await visitNat(bpffs, filter, (tuple, entry) => json.write(natJson(tuple, entry, now)));
    await json.end();
    return;
  }
  const text = lineWriter(out);
  await visitNat(bpffs, filter, (tuple, entry) => text.write(formatNat(tuple, entry, now)));
  await text.end();
}

async function flush(options: FilterOptions, command: Command): Promise<void> {
  const filter = compileFilter(options);
  const bpffs = pinsOf(command);
  const out = createOutput();
  const { loadReaper } = await import('../engine/reap.ts');
  for (const family of pinnedFamilies(bpffs, filter)) {
    using reaper = loadReaper(bpffs, family);
    const flusher = createFlusher(reaper, family, 'snat');
    await walkNat(
      bpffs,
      family,
      matching(filter, (tuple, entry) => flusher.add(tuple, otherHalf(tuple, entry))),
    );
    const { deleted } = await flusher.end();
    await writeLines(out, [flushedLine(deleted, join(bpffs, family, 'snat'))]);
  }
}

async function ports(
  options: FilterOptions & OutputOptions & { top?: string },
  command: Command,
): Promise<void> {
  const top = topOf(options.top);
  const filter = compileFilter(options);
  const { state, masquerade } = configOf(command);
  requirePins(state.bpffs);
  const ranges = portRanges(state.bpffs, masquerade.ports);
  const counter = countPorts(ranges, clockOf(state.bpffs));
  const outgoing = { ...filter, matches: (tuple: Tuple) => filter.matches(turned(tuple)) };
  await visitNat(state.bpffs, outgoing, (tuple, entry) => void counter.add(tuple, entry));
  const out = createOutput();
  if (options.output === 'json') await writeJsonArray(out, counter.uses(top));
  else
    await writeLines(
      out,
      tableLines(PORTS_HEADING, () => counter.uses(top).map(portCells)),
    );
}

/** The flow that a reverse entry holds a port for, as it leaves the node. */
function turned({ saddr, daddr, sport, dport, ...rest }: Tuple): Tuple {
  const kind = rest.kind ^ KIND.KIND_IN;
  return { ...rest, saddr: daddr, daddr: saddr, sport: dport, dport: sport, kind };
}

const PORTS_HEADING = ['PROTOCOL', 'EGRESS', 'REMOTE', 'PORTS', 'RANGE', 'USED'];

function portCells({ protocol, egress, remote, used, capacity, percent }: PortUse): Cell[] {
  return [protocol, egress, remote, used, capacity, `${percent.toFixed(1)}%`];
}

async function retries(options: OutputOptions, command: Command): Promise<void> {
  const attempts = sumAttempts(pinsOf(command));
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, attempts);
  else await writeLines(out, attemptLines(attempts));
}

function topOf(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (/^[1-9]\d*$/.test(text)) return Number(text);
  throw new SekishoError('E_USAGE', `--top takes a number from 1, not "${text}"`);
}
