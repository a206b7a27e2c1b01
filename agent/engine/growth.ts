import { MOST_SIZE } from './sizing.ts';

/** Share of its capacity above which a table is under pressure. */
export const PRESSURE = 0.9;
const PASSES = 3;
/** Passes begin a second apart, and come to a table a little earlier or later. */
const SPACING_MS = 800;
/** What a table grows to is this many times what it had, and never less than that. */
const FACTOR = 2;
const WORTHWHILE = 1.1;

/** What a pass saw of one table. */
export interface Sight {
  alive: number;
  capacity: number;
  /** When, in milliseconds of any clock. */
  at: number;
  /** The most entries that the memory bound leaves it. */
  most: number;
}

/** What is remembered of one table between passes. */
export interface Pressure {
  /** Passes in a row that found it above the mark. */
  passes: number;
  /** When the last one that counted was. */
  at: number;
  /** It has been told that the table cannot grow. */
  told: boolean;
}

export const NO_PRESSURE: Pressure = { passes: 0, at: Number.NEGATIVE_INFINITY, told: false };

/** Some passes have found pressure, and not enough to be sure that it lasts. */
export function isRising({ passes }: Pressure): boolean {
  return passes > 0 && passes < PASSES;
}

export type Growth =
  | { kind: 'none' }
  | { kind: 'grow'; entries: number }
  /** Under lasting pressure, and at its bound; told once until the pressure is gone. */
  | { kind: 'stuck' };

/**
 * Decides what lasting pressure means for a table. Passes closer together than a second count as
 * one: what the first one freed must have had the time to show.
 */
export function growth(
  { alive, capacity, at, most }: Sight,
  before: Pressure,
): { growth: Growth; pressure: Pressure } {
  const none: Growth = { kind: 'none' };
  if (alive <= capacity * PRESSURE) return { growth: none, pressure: NO_PRESSURE };
  if (at - before.at < SPACING_MS) return { growth: none, pressure: before };
  const pressure = { ...before, passes: before.passes + 1, at };
  if (pressure.passes < PASSES) return { growth: none, pressure };
  const entries = Math.min(capacity * FACTOR, most, MOST_SIZE);
  if (entries >= capacity * WORTHWHILE)
    return { growth: { kind: 'grow', entries }, pressure: NO_PRESSURE };
  if (before.told) return { growth: none, pressure };
  return { growth: { kind: 'stuck' }, pressure: { ...pressure, told: true } };
}
