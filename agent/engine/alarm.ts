/** Milliseconds that a timer can wait at most: one that is to wait longer fires at once. */
const LONGEST = 2 ** 31 - 1;

export interface Alarm {
  /** Rings at that moment, and no more at the one before. */
  set(at: number): void;
  /** Never rings again. */
  stop(): void;
}

/** Rings at a moment of a clock of seconds, however far away, and never before it. */
export function createAlarm(clock: () => number, ring: () => void): Alarm {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  function set(at: number): void {
    clearTimeout(timer);
    if (stopped) return;
    const wait = Math.max(0, (at - clock()) * 1000);
    timer = setTimeout(() => (clock() < at ? set(at) : ring()), Math.min(wait, LONGEST));
  }

  return {
    set,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
