import { readFileSync } from 'node:fs';
import {
  alternating,
  dividedRounds,
  pairedRatios,
  roundsOr,
  type Summary,
  summarise,
} from '../statistics.ts';
import type { Load } from './loads.ts';
import type { Sample } from './tcp.ts';
import type { Opened } from './variant.ts';

const WARMUP_MS = 200;
const RUN_MS = 700;
const ROUNDS = roundsOr(9);
/** Of topologies: where the kernel puts a topology's memory alone makes some per cent. */
const SETS = 3;

/** Who is compared. */
export interface Field {
  names: readonly string[];
  /** The ratios that are worth a column: whose value over whose. The first one is judged. */
  pairs: readonly (readonly [over: string, under: string])[];
  /** All of them, each on a topology of its own. */
  open(load: Load): Promise<Opened>;
}

export interface Ratio {
  pair: string;
  /** Of what was done in a second. */
  time: Summary;
  /** Of what was done in a second of CPU time. */
  cpu: Summary;
}

/** One load on every variant, alternating; by their names, in the order of the field. */
export interface Comparison {
  key: string;
  title: string;
  unit: string;
  scale: number;
  /** Rounds on each set of topologies, in the order of the samples. */
  sets: number[];
  summaries: Record<string, Summary>;
  ratios: Ratio[];
  samples: Record<string, Sample[]>;
}

/** Runs a load on several sets of new topologies, one after the other; pairs are of one set. */
export async function compare(load: Load, field: Field): Promise<Comparison> {
  const { key, title, unit, scale } = load;
  assertConntrackRoom(load.flows ?? 0);
  const sets = dividedRounds(ROUNDS, SETS);
  const samples = byName(field, (): Sample[] => []);
  let done = 0;
  for (const rounds of sets) {
    await runSet(load, field, rounds, done, samples);
    done += rounds;
  }
  const of = (name: string, figure: 'value' | 'perCpuSecond') =>
    (samples[name] ?? []).map((sample) => sample[figure]);
  const ratio = (over: string, under: string, figure: 'value' | 'perCpuSecond') =>
    summarise(pairedRatios(of(over, figure), of(under, figure)));
  const ratios = field.pairs.map(([over, under]) => ({
    pair: `${over}/${under}`,
    time: ratio(over, under, 'value'),
    cpu: ratio(over, under, 'perCpuSecond'),
  }));
  const summaries = byName(field, (name) => summarise(of(name, 'value')));
  return { key, title, unit, scale, sets, summaries, ratios, samples };
}

/** Some rounds on topologies of their own, after a short run on each that does not count. */
async function runSet(
  load: Load,
  field: Field,
  rounds: number,
  from: number,
  samples: Record<string, Sample[]>,
): Promise<void> {
  await using variants = await field.open(load);
  for (const variant of variants.all) await load.run(variant, WARMUP_MS);
  for (const variant of alternating(variants.all, rounds, from)) {
    samples[variant.name]?.push(await load.run(variant, RUN_MS));
  }
}

/** The limit is the machine's, not a namespace's: whoever owns the machine is to change it. */
function assertConntrackRoom(flows: number): void {
  const max = Number(readFileSync('/proc/sys/net/netfilter/nf_conntrack_max', 'utf8'));
  if (max >= flows * 1.1) return;
  throw new Error(`nf_conntrack_max is ${max}: too few for ${flows} flows of nftables`);
}

function byName<T>({ names }: Field, make: (name: string) => T): Record<string, T> {
  return Object.fromEntries(names.map((name) => [name, make(name)]));
}
