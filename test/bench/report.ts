import { formatTable } from '../../agent/cli/text-table.ts';
import { figureText, goalText, type Verdict } from './goals.ts';
import type { Comparison } from './live/compare.ts';
import type { Refusal } from './live/refused.ts';
import type { Machine } from './machine.ts';
import type { PacketRow } from './packet/table.ts';
import { ratioText, STATES, withQuartiles, withRange } from './text.ts';

export function machineLines(machine: Machine): string[] {
  const { cpu, cores, memoryBytes, kernel, load1, versions } = machine;
  const gib = Math.round(memoryBytes / 2 ** 30);
  return [
    `${cpu}, ${cores} cores, ${gib} GiB, Linux ${kernel}, ${versions.nft}`,
    ...(load1 > 0.5 ? [`load was ${load1.toFixed(1)} before: others disturb these figures`] : []),
  ];
}

/** Of loads on the same variants. `subject`: what they have in common. */
export function comparisonLines(subject: string, comparisons: readonly Comparison[]): string[] {
  const [first] = comparisons;
  if (!first) return [];
  const values = comparisons.map(({ title, unit, scale, summaries }) => [
    `${title}, ${unit}`,
    ...Object.values(summaries).map((summary) => withQuartiles(summary, scale)),
  ]);
  const ratios = comparisons.flatMap(({ title, ratios }) => [
    [title, ...ratios.map(({ time }) => ratioText(time))],
    ['  by CPU time', ...ratios.map(({ cpu }) => ratioText(cpu))],
  ]);
  const names = Object.keys(first.summaries);
  const pairs = first.ratios.map(({ pair }) => pair);
  return [
    ...section(`${subject}: median (quartiles)`, ['', ...names], values),
    ...section(`${subject}, in pairs: median (quartiles; range)`, ['', ...pairs], ratios),
  ];
}

/** Who is not in the tables, and why. */
export function skippedLines(skipped: Readonly<Record<string, string>>): string[] {
  return Object.entries(skipped).map(([name, reason]) => `${name}: skipped, ${reason}`);
}

export function refusalLines(refusal: Refusal): string[] {
  const { refusedPerSecond, alone, beside, kept, refusedRatio } = refusal;
  const names = ['nftables', 'sekisho'] as const;
  const row = (title: string, of: (name: (typeof names)[number]) => string) => [
    title,
    ...names.map(of),
  ];
  return section(
    `Refused: ${refusal.ports} ports, all in use`,
    ['', ...names, 'sekisho/nftables'],
    [
      [
        ...row('refused packets, kpps', (name) => withQuartiles(refusedPerSecond[name], 1e3)),
        ratioText(refusedRatio),
      ],
      [...row('another flow, exchanges/s', (name) => withQuartiles(alone[name])), ''],
      [...row('beside 20 kpps refused', (name) => withQuartiles(beside[name])), ''],
      [...row('  of it left', (name) => ratioText(kept[name])), ''],
    ],
  );
}

export function packetLines(rows: readonly PacketRow[]): string[] {
  const cells = rows.map(({ family, proto, path, state, ns, calls, reference }) => [
    `${family} ${proto}`,
    path,
    STATES[state],
    withRange(ns),
    calls ? perPacket(calls.lookups) : '',
    calls ? perPacket(calls.updates) : '',
    reference ? `${reference.ns}` : '',
    reference?.lookups ? String(reference.lookups) : '',
  ]);
  const heading = ['', 'path', 'state', 'ns', 'lookups', 'updates', 'reference ns', 'lookups'];
  return section('Per packet, BPF_PROG_TEST_RUN: median of 5 processes (range)', heading, cells);
}

/** What happens once a second shows up as a fraction. */
const perPacket = (calls: number) => String(Math.round(calls * 10) / 10);

export function verdictLines(verdicts: readonly Verdict[]): string[] {
  const rows = verdicts.map((verdict) => [
    verdict.title,
    figureText(verdict),
    goalText(verdict.goal),
    verdict.met ? 'met' : 'not met',
  ]);
  return section('Goals', ['', 'figure', 'goal', ''], rows);
}

function section(title: string, heading: string[], rows: string[][]): string[] {
  return ['', title, '', ...formatTable(heading, rows)];
}
