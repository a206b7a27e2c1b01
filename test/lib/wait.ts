import { setTimeout as sleep } from 'node:timers/promises';

export interface Patience {
  /** Milliseconds until it is given up; default 10,000. */
  timeout?: number;
  /** Milliseconds between two looks; default 20. */
  every?: number;
}

type Truthy<T> = Exclude<T, undefined | null | false | 0 | ''>;

/** Resolves with the first truthy value of `condition`; rejects with `what` and the last one seen. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  { timeout = 10_000, every = 20 }: Patience = {},
): Promise<Truthy<T>> {
  const deadline = performance.now() + timeout;
  for (;;) {
    const value = await condition();
    if (value) return value as Truthy<T>;
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeout} ms for ${what}; last seen: ${JSON.stringify(value)}`);
    }
    await sleep(every);
  }
}
