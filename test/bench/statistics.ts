/** Rounds of a live measurement, unless BENCH_ROUNDS asks for another number: to rehearse. */
export function roundsOr(usual: number): number {
  return Number(process.env.BENCH_ROUNDS ?? usual);
}

/** Five numbers of a sample: what a noisy machine lets one say. */
export interface Summary {
  median: number;
  q1: number;
  q3: number;
  min: number;
  max: number;
}

/** Of at least one value. Quartiles are interpolated. */
export function summarise(values: readonly number[]): Summary {
  if (values.length === 0) throw new RangeError('nothing was measured');
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => {
    const place = share * (sorted.length - 1);
    const low = sorted[Math.floor(place)] ?? 0;
    const high = sorted[Math.ceil(place)] ?? low;
    return low + (high - low) * (place - Math.floor(place));
  };
  return { median: at(0.5), q1: at(0.25), q3: at(0.75), min: at(0), max: at(1) };
}

/** Each value over the one measured beside it, in the same round. */
export function pairedRatios(over: readonly number[], under: readonly number[]): number[] {
  if (over.length !== under.length) throw new RangeError('ratios need pairs');
  return over.map((value, i) => value / (under[i] ?? Number.NaN));
}

/**
 * Who is measured when: every round has each of them once, and the order turns round from one to
 * the next (a b c d, d c b a, …), so that a drift of the machine favours nobody. `from` is the
 * number of the first round.
 */
export function* alternating<T>(all: readonly T[], rounds: number, from = 0): Generator<T> {
  for (let round = from; round < from + rounds; round++) {
    yield* round % 2 === 0 ? all : all.toReversed();
  }
}

/** Rounds of each of several sets, the larger ones first; none is empty. */
export function dividedRounds(rounds: number, sets: number): number[] {
  const shares = Array.from({ length: sets }, (_, set) => Math.ceil((rounds - set) / sets));
  return shares.filter((share) => share > 0);
}
