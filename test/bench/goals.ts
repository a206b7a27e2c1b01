import { type ControlFigures, STEPS } from './control.ts';
import type { Comparison } from './live/compare.ts';
import type { PacketRow } from './packet/table.ts';
import type { ScaleFigures } from './scale.ts';
import type { Summary } from './statistics.ts';
import { ratioText, STATES, withRange } from './text.ts';

/** What is asked of Sekisho's ratio to nftables, by the key of the load. */
const RATIOS: Readonly<Record<string, number>> = {
  bulk: 1.0,
  'udp-1': 1.1,
  'udp-10k': 1.1,
  'crr-1': 1.05,
  'crr-32': 1.05,
};

/** The same on every path of a service. */
const SERVICE_RATIO = 1.0;
/** What is asked of so many services, in seconds. */
const SERVICES = { count: 10_000, first: 5, unchanged: 0.5 };

/** What is asked of tables of this many entries; with fewer it would say nothing. */
const MANY = 1_000_000;
const LIST = 'ct list';
const LIST_MB = 150;
/** Times as fast as `bpftool map dump`. */
const LIST_SPEED = 3;
/** Of the time of one deletion per system call. */
const EXPIRY = 0.6;
/** "Near" the longest call for a batch: an event loop stands still for no more than twice that. */
const GAP = 2;

export interface Goal {
  bound: '≥' | '≤' | '<';
  value: number;
  unit: 'times' | 'ns' | 's' | 'MB';
}

/** A goal, and what the bench found. */
export interface Verdict {
  key: string;
  title: string;
  goal: Goal;
  /** Decides; undefined where the machine lacks what it takes, and the goal is not met. */
  figure: number | undefined;
  /** Of a median: how far to believe it. */
  spread?: Summary;
  met: boolean;
}

type Compared = Pick<Comparison, 'key' | 'title' | 'ratios'>;

/** Live loads, where something is asked of them. */
export function judgeRatios(comparisons: readonly Compared[]): Verdict[] {
  return comparisons.flatMap((one) => toNftables(one, RATIOS[one.key]) ?? []);
}

/** Loads through a service. */
export function judgeServices(comparisons: readonly Compared[]): Verdict[] {
  return comparisons.flatMap((one) => toNftables(one, SERVICE_RATIO) ?? []);
}

function toNftables({ key, title, ratios }: Compared, value?: number): Verdict | undefined {
  const ratio = ratios.find(({ pair }) => pair === 'sekisho/nftables')?.time;
  if (value === undefined || !ratio) return undefined;
  const goal: Goal = { bound: '≥', value, unit: 'times' };
  return { ...judge(key, `${title}, to nftables`, goal, ratio.median), spread: ratio };
}

/** A daemon with ten thousand services or more. */
export function judgeControl({ services, steps }: ControlFigures): Verdict[] {
  if (services < SERVICES.count) return [];
  return (['first', 'unchanged'] as const).map((step) => {
    const { seconds } = steps[step];
    const goal: Goal = { bound: '≤', value: SERVICES[step], unit: 's' };
    const title = `${services} services ${STEPS[step]}`;
    return { ...judge(`services-${step}`, title, goal, seconds.median), spread: seconds };
  });
}

/** Every row that has a reference is to be below it. */
export function judgePackets(rows: readonly PacketRow[]): Verdict[] {
  return rows.flatMap(({ family, proto, path, state, ns, reference }) => {
    if (!reference) return [];
    const key = ['ns', family, proto, path, state].join('-');
    const title = `${family} ${proto} ${path}, ${STATES[state]}`;
    const goal: Goal = { bound: '<', value: reference.ns, unit: 'ns' };
    return [{ ...judge(key, title, goal, ns.median), spread: ns }];
  });
}

/** Listings and passes, with a million entries or more. */
export function judgeScale(figures: ScaleFigures): Verdict[] {
  const { entries, listings, bpftool, scan, collection, expiry } = figures;
  if (entries < MANY) return [];
  const lists = listings.filter(({ command }) => command === LIST);
  const seconds = lists.find(({ family }) => family === 'ipv4')?.seconds;
  const speed: Goal = { bound: '≥', value: LIST_SPEED, unit: 'times' };
  const share: Goal = { bound: '≤', value: EXPIRY, unit: 'times' };
  const gap: Goal = { bound: '≤', value: GAP, unit: 'times' };
  const passes = Object.entries({ 'nothing expired': scan, 'all expired': collection });
  return [
    ...lists.map(({ family, megabytes }) => {
      const goal: Goal = { bound: '<', value: LIST_MB, unit: 'MB' };
      return judge(`list-memory-${family}`, `${LIST}, ${family}, peak`, goal, megabytes);
    }),
    judge(
      'list-speed',
      `${LIST}, to bpftool map dump`,
      speed,
      bpftool && seconds && bpftool.seconds / seconds,
    ),
    {
      ...judge(
        'expiry',
        'all expired: a pass, to batch lookup and one deletion per entry',
        share,
        expiry.pass.ratio.median,
      ),
      spread: expiry.pass.ratio,
    },
    ...passes.map(([name, { longestGapMs, longestBatchMs, longestReapMs }]) => {
      const call = Math.max(longestBatchMs, longestReapMs);
      const title = `event loop's longest gap to longest batch call, ${name}`;
      return judge(`gap-${name.split(' ')[0]}`, title, gap, longestGapMs / call);
    }),
  ];
}

/** `1.10 (1.05–1.12; 0.98–1.20)`, `209 (203–232) ns`, `104.2 MB`. */
export function figureText({ figure, spread, goal: { unit } }: Verdict): string {
  if (figure === undefined) return 'not measured';
  if (unit === 'times') return spread ? ratioText(spread) : figure.toFixed(2);
  return `${spread ? withRange(spread) : figure.toFixed(1)} ${unit}`;
}

/** `≥ 1.10`, `< 422 ns`. */
export function goalText({ bound, value, unit }: Goal): string {
  return unit === 'times' ? `${bound} ${value.toFixed(2)}` : `${bound} ${value} ${unit}`;
}

function judge(key: string, title: string, goal: Goal, figure: number | undefined): Verdict {
  return { key, title, goal, figure, met: figure !== undefined && satisfies(figure, goal) };
}

function satisfies(figure: number, { bound, value }: Goal): boolean {
  if (bound === '≥') return figure >= value;
  return bound === '≤' ? figure <= value : figure < value;
}
