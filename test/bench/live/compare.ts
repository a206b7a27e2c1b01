import { readFileSync } from 'node:fs';
import {
  alternating,
  dividedRounds,
  pairedRatios,
  roundsOr,
  type Summary,
  summarise,
} from '../statistics.ts';
import type { Load, Sample } from './loads.ts';
import { openVariants, VARIANTS, type VariantName } from './variants.ts';

const WARMUP_MS = 200;
const RUN_MS = 700;
const ROUNDS = roundsOr(9);
/** Of topologies: where the kernel puts a topology's memory alone makes some per cent. */
const SETS = 3;

/** The ratios that are worth a column: whose value over whose. */
export const PAIRS = [
  ['sekisho', 'nftables'],
  ['sekisho', 'redirect'],
  ['nftables', 'plain'],
  ['redirect', 'nftables'],
] as const satisfies [VariantName, VariantName][];

export interface Ratio {
  pair: string;
  /** Of what was done in a second. */
  time: Summary;
  /** Of what was done in a second of CPU time. */
  cpu: Summary;
}

/** One load on every variant, alternating. */
export interface Comparison {
  key: string;
  title: string;
  unit: string;
  scale: number;
  /** Rounds on each set of topologies, in the order of the samples. */
  sets: number[];
  summaries: Record<VariantName, Summary>;
  ratios: Ratio[];
  samples: Record<VariantName, Sample[]>;
}

/** Runs a load on several sets of new topologies, one after the other; pairs are of one set. */
export async function compare(load: Load): Promise<Comparison> {
  const { key, title, unit, scale } = load;
  assertConntrackRoom(load.flows ?? 0);
  const sets = dividedRounds(ROUNDS, SETS);
  const samples = byVariant((): Sample[] => []);
  let done = 0;
  for (const rounds of sets) {
    await runSet(load, rounds, done, samples);
    done += rounds;
  }
  const values = (name: VariantName) => samples[name].map(({ value }) => value);
  const perCpu = (name: VariantName) => samples[name].map(({ perCpuSecond }) => perCpuSecond);
  const ratios = PAIRS.map(([over, under]) => ({
    pair: `${over}/${under}`,
    time: summarise(pairedRatios(values(over), values(under))),
    cpu: summarise(pairedRatios(perCpu(over), perCpu(under))),
  }));
  const summaries = byVariant((name) => summarise(values(name)));
  return { key, title, unit, scale, sets, summaries, ratios, samples };
}

/** Some rounds on topologies of their own, after a short run on each that does not count. */
async function runSet(
  load: Load,
  rounds: number,
  from: number,
  samples: Record<VariantName, Sample[]>,
): Promise<void> {
  const { maps } = load;
  await using variants = await openVariants(VARIANTS, maps ? { sekisho: { maps } } : {});
  for (const variant of variants.all) await load.run(variant, WARMUP_MS);
  for (const variant of alternating(variants.all, rounds, from)) {
    samples[variant.name].push(await load.run(variant, RUN_MS));
  }
}

/** The limit is the machine's, not a namespace's: whoever owns the machine is to change it. */
function assertConntrackRoom(flows: number): void {
  const max = Number(readFileSync('/proc/sys/net/netfilter/nf_conntrack_max', 'utf8'));
  if (max >= flows * 1.1) return;
  throw new Error(`nf_conntrack_max is ${max}: too few for ${flows} flows of nftables`);
}

function byVariant<T>(make: (name: VariantName) => T): Record<VariantName, T> {
  return Object.fromEntries(VARIANTS.map((name) => [name, make(name)])) as Record<VariantName, T>;
}
