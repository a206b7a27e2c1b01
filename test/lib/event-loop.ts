export interface LoopFigures {
  /** Times that the event loop went round. */
  turns: number;
  /** Longest time between two turns, in milliseconds. */
  longestGapMs: number;
}

/** Watches the event loop from now on, by keeping it turning; `stop` tells what was seen. */
export function watchEventLoop(): { figures(): LoopFigures; stop(): LoopFigures } {
  const seen: LoopFigures = { turns: 0, longestGapMs: 0 };
  let before = performance.now();
  let next = setImmediate(turn);
  function turn(): void {
    const now = performance.now();
    seen.turns++;
    seen.longestGapMs = Math.max(seen.longestGapMs, now - before);
    before = now;
    next = setImmediate(turn);
  }
  return {
    figures: () => ({ ...seen }),
    stop() {
      clearImmediate(next);
      return seen;
    },
  };
}
