import { setTimeout as sleep } from 'node:timers/promises';

const SLOWNESS = Number(process.env.SEKISHO_TEST_SLOW ?? 1);
const BREATH_MS = 50;

/** A time limit on this machine: SEKISHO_TEST_SLOW says how many times slower it is than usual. */
export function slowly(milliseconds: number): number {
  return milliseconds * SLOWNESS;
}

/** A number of rounds, bytes or entries that fits this machine: less where it is slower. */
export function affordably(amount: number): number {
  return Math.ceil(amount / SLOWNESS);
}

/** After a round of a load without end: a slow machine would do nothing else, and is left to others for a moment. */
export async function breathe(): Promise<void> {
  if (SLOWNESS > 1) await sleep(slowly(BREATH_MS));
}

export interface Patience {
  /** Milliseconds until it is given up, before `slowly`; default 30,000. */
  timeout?: number;
  /** Milliseconds between two looks; default 20. */
  every?: number;
}

type Truthy<T> = Exclude<T, undefined | null | false | 0 | ''>;

/** Resolves with the first truthy value of `condition`; rejects with `what` and the last one seen. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  { timeout = 30_000, every = 20 }: Patience = {},
): Promise<Truthy<T>> {
  const limit = slowly(timeout);
  const deadline = performance.now() + limit;
  for (;;) {
    const value = await condition();
    if (value) return value as Truthy<T>;
    if (performance.now() > deadline) {
      throw new Error(`waited ${limit} ms for ${what}; last seen: ${JSON.stringify(value)}`);
    }
    await sleep(every);
  }
}
