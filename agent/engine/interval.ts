/** How an interval follows what its passes find; seconds. */
export interface IntervalBounds {
  min: number;
  max: number;
}

/** What was found since the pass that the interval began with. */
export interface Findings {
  /** Seconds since that pass. */
  elapsed: number;
  /** The largest share of a table that had expired, by its capacity. */
  ratio: number;
}

/** Where `auto` starts. */
export const FIRST_INTERVAL = 300;

const MUCH = 0.25;
const LITTLE = 0.05;
/** Of an interval, the most that one pass cuts off. */
const CUT = 0.9;
const GROWTH = 1.5;

/**
 * The next interval, in whole seconds within the bounds. Much garbage shortens it by as much, little
 * lengthens it by half; none at all says nothing and leaves it. Whoever comes early is judged by what
 * a whole interval would have brought, and lengthens nothing.
 */
export function nextInterval(
  current: number,
  { elapsed, ratio }: Findings,
  bounds: IntervalBounds,
): number {
  const early = isEarly(current, elapsed);
  const scaled = early ? (ratio * current) / Math.max(elapsed, 1) : ratio;
  if (scaled > MUCH) return clamp(current * (1 - Math.min(scaled, CUT)), bounds);
  if (scaled > 0 && scaled < LITTLE && !early) return clamp(current * GROWTH, bounds);
  return clamp(current, bounds);
}

/** Before its time, by more than half a second: timers fire a little early. */
export function isEarly(planned: number, elapsed: number): boolean {
  return planned - elapsed > 0.5;
}

/** To the second, within the bounds. */
export function clamp(seconds: number, { min, max }: IntervalBounds): number {
  return Math.min(max, Math.max(min, Math.round(seconds)));
}
