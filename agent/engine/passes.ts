import { setTimeout as delay } from 'node:timers/promises';

export interface Passes<T> {
  /** Asks for a pass that begins from now on; resolves with its result. */
  trigger(): Promise<T>;
  /** No pass begins any more; resolves when the one under way has ended. */
  stop(): Promise<void>;
}

/**
 * Passes that never overlap and begin at least `spacingMs` apart. All triggers before a pass
 * begins share it; one during a pass gets the next, since the pass may have gone by already.
 */
export function createPasses<T>(pass: () => Promise<T>, spacingMs: number): Passes<T> {
  const halt = new AbortController();
  let begun = Number.NEGATIVE_INFINITY;
  let running: Promise<unknown> = Promise.resolve();
  let waiting: Promise<T> | undefined;

  async function next(): Promise<T> {
    await running.catch(() => {});
    const early = begun + spacingMs - performance.now();
    if (early > 0) await delay(early, undefined, { signal: halt.signal });
    halt.signal.throwIfAborted();
    waiting = undefined;
    begun = performance.now();
    const current = pass();
    running = current;
    return current;
  }

  return {
    trigger() {
      waiting ??= next().finally(() => {
        if (halt.signal.aborted) waiting = undefined;
      });
      return waiting;
    },
    async stop() {
      halt.abort(new Error('passes have stopped'));
      await running.catch(() => {});
    },
  };
}
