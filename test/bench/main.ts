/**
 * `make bench`: Sekisho against plain forwarding, nftables masquerade and a bare redirect, in one
 * run; what a packet costs in each program. `BENCH=udp,crr` picks parts. Writes build/bench.json,
 * prints tables, and ends with status 1 when something did not do what was to be measured.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { judgePackets, judgeRatio, judgeScale } from './goals.ts';
import { inIsolation } from './isolation.ts';
import { type Comparison, compare } from './live/compare.ts';
import { LOADS } from './live/loads.ts';
import { measureRefusal } from './live/refused.ts';
import { describeMachine } from './machine.ts';
import { measurePackets } from './packet/table.ts';
import {
  comparisonLines,
  machineLines,
  packetLines,
  refusalLines,
  verdictLines,
} from './report.ts';
import { type ScaleFigures, scaleLines } from './scale.ts';

const BUILD = join(import.meta.dirname, '..', '..', 'build');
const PARTS = ['bulk', 'udp', 'rr', 'crr', 'refused', 'packet', 'scale'];
const SCALE = join(import.meta.dirname, 'scale.ts');
const EVERY_CPU = { everyCpu: true };

function chosenParts(): string[] {
  const names = (process.env.BENCH ?? '').split(',').filter(Boolean);
  const unknown = names.find((name) => !PARTS.includes(name));
  if (unknown) throw new RangeError(`no part is called ${unknown}: ${PARTS.join(', ')}`);
  return names.length > 0 ? names : PARTS;
}

async function measure(parts: readonly string[]) {
  const comparisons: Comparison[] = [];
  for (const load of LOADS.filter(({ part }) => parts.includes(part))) {
    progress(load.title);
    comparisons.push(await compare(load));
  }
  if (parts.includes('refused')) progress('refused packets');
  const refusal = parts.includes('refused') ? await measureRefusal() : undefined;
  if (parts.includes('packet')) progress('ns per packet');
  const packets = parts.includes('packet') ? await measurePackets(progress) : undefined;
  if (parts.includes('scale')) progress('a million entries');
  const scale = parts.includes('scale')
    ? await inIsolation<ScaleFigures>(SCALE, EVERY_CPU)
    : undefined;
  return { comparisons, refusal, packets, scale };
}

function progress(text: string): void {
  process.stderr.write(`${String(Math.round(performance.now() / 1000)).padStart(4)} s  ${text}\n`);
}

const machine = describeMachine();
const startedAt = new Date().toISOString();
const { comparisons, refusal, packets, scale } = await measure(chosenParts());
const verdicts = [
  ...comparisons.flatMap(({ key, title, ratios }) => {
    const [toNftables] = ratios;
    return (toNftables && judgeRatio(key, title, toNftables.time)) ?? [];
  }),
  ...judgePackets(packets ?? []),
  ...(scale ? judgeScale(scale) : []),
];
const results = { startedAt, machine, comparisons, refusal, packets, scale, verdicts };
mkdirSync(BUILD, { recursive: true });
writeFileSync(join(BUILD, 'bench.json'), `${JSON.stringify(results, null, 2)}\n`);
const lines = [
  ...machineLines(machine),
  ...(comparisons.length > 0 ? comparisonLines(comparisons) : []),
  ...(refusal ? refusalLines(refusal) : []),
  ...(packets ? packetLines(packets) : []),
  ...(scale ? ['', ...scaleLines(scale)] : []),
  ...(verdicts.length > 0 ? verdictLines(verdicts) : []),
];
console.log(lines.join('\n'));
