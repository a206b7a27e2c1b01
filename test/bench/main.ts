/**
 * `make bench`: Sekisho against plain forwarding, nftables masquerade and a bare redirect, and its
 * services against nftables DNAT, in one run; what a packet costs in each program; what a million
 * connections and ten thousand services take. `BENCH=udp,crr` picks parts. Writes
 * build/bench.json, prints tables, and ends with status 1 when something did not do what was to be
 * measured.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { controlLines, measureControl } from './control.ts';
import { judgeControl, judgePackets, judgeRatios, judgeScale, judgeServices } from './goals.ts';
import { inIsolation } from './isolation.ts';
import { type Skipped, skippedBalancers } from './live/balancers.ts';
import { type Comparison, compare, type Field } from './live/compare.ts';
import { LOADS, type Load } from './live/loads.ts';
import { MASQUERADES } from './live/masquerades.ts';
import { measureRefusal } from './live/refused.ts';
import { serviceLoads } from './live/service-loads.ts';
import { describeMachine } from './machine.ts';
import { measurePackets } from './packet/table.ts';
import {
  comparisonLines,
  machineLines,
  packetLines,
  refusalLines,
  skippedLines,
  verdictLines,
} from './report.ts';
import { type ScaleFigures, scaleLines } from './scale.ts';

const BUILD = join(import.meta.dirname, '..', '..', 'build');
const PARTS = ['bulk', 'udp', 'rr', 'crr', 'refused', 'services', 'packet', 'scale', 'control'];
const SCALE = join(import.meta.dirname, 'scale.ts');
const EVERY_CPU = { everyCpu: true };

function chosenParts(): string[] {
  const names = (process.env.BENCH ?? '').split(',').filter(Boolean);
  const unknown = names.find((name) => !PARTS.includes(name));
  if (unknown) throw new RangeError(`no part is called ${unknown}: ${PARTS.join(', ')}`);
  return names.length > 0 ? names : PARTS;
}

async function measure(parts: readonly string[]) {
  const masquerades = LOADS.map((load) => ({ load, field: MASQUERADES }));
  const comparisons = await compareAll(masquerades, parts);
  if (parts.includes('refused')) progress('refused packets');
  const refusal = parts.includes('refused') ? await measureRefusal() : undefined;
  const skipped: Skipped = parts.includes('services') ? skippedBalancers() : {};
  const services = await compareAll(serviceLoads(skipped), parts);
  if (parts.includes('packet')) progress('ns per packet');
  const packets = parts.includes('packet') ? await measurePackets(progress) : undefined;
  if (parts.includes('scale')) progress('a million entries');
  const scale = parts.includes('scale')
    ? await inIsolation<ScaleFigures>(SCALE, EVERY_CPU)
    : undefined;
  if (parts.includes('control')) progress('many services');
  const control = parts.includes('control') ? await measureControl() : undefined;
  return { comparisons, refusal, services, skipped, packets, scale, control };
}

async function compareAll(
  all: readonly { load: Load; field: Field }[],
  parts: readonly string[],
): Promise<Comparison[]> {
  const comparisons: Comparison[] = [];
  for (const { load, field } of all.filter(({ load }) => parts.includes(load.part))) {
    progress(load.title);
    comparisons.push(await compare(load, field));
  }
  return comparisons;
}

function progress(text: string): void {
  process.stderr.write(`${String(Math.round(performance.now() / 1000)).padStart(4)} s  ${text}\n`);
}

const machine = describeMachine();
const startedAt = new Date().toISOString();
const measured = await measure(chosenParts());
const { comparisons, refusal, services, skipped, packets, scale, control } = measured;
const verdicts = [
  ...judgeRatios(comparisons),
  ...judgeServices(services),
  ...judgePackets(packets ?? []),
  ...(scale ? judgeScale(scale) : []),
  ...(control ? judgeControl(control) : []),
];
const results = { startedAt, machine, ...measured, verdicts };
mkdirSync(BUILD, { recursive: true });
writeFileSync(join(BUILD, 'bench.json'), `${JSON.stringify(results, null, 2)}\n`);
const lines = [
  ...machineLines(machine),
  ...comparisonLines('Live', comparisons),
  ...(refusal ? refusalLines(refusal) : []),
  ...comparisonLines('Services', services),
  ...skippedLines(skipped),
  ...(packets ? packetLines(packets) : []),
  ...(scale ? ['', ...scaleLines(scale)] : []),
  ...(control ? ['', ...controlLines(control)] : []),
  ...(verdicts.length > 0 ? verdictLines(verdicts) : []),
];
console.log(lines.join('\n'));
