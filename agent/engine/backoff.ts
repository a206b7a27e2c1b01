const FIRST_MS = 60_000;
const LONGEST_MS = 3_600_000;

/** Lets pass ever more time after each failure in a row, for things that go by a name. */
export interface Backoff {
  /** Too early to try again; what was tried in another `state` does not count. */
  rests(name: string, state: number): boolean;
  /** Milliseconds to be let pass: a minute, twice as much after each further one, an hour at most. */
  failed(name: string, state: number): number;
}

/** `now` gives milliseconds of any clock. */
export function createBackoff(now: () => number): Backoff {
  const failures = new Map<string, { state: number; waits: number; until: number }>();
  const known = (name: string, state: number) => {
    const failure = failures.get(name);
    return failure?.state === state ? failure : undefined;
  };
  return {
    rests: (name, state) => now() < (known(name, state)?.until ?? 0),
    failed(name, state) {
      const before = known(name, state)?.waits ?? FIRST_MS / 2;
      const waits = Math.min(2 * before, LONGEST_MS);
      failures.set(name, { state, waits, until: now() + waits });
      return waits;
    },
  };
}
