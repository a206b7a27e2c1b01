/** Numbers from 1 to a limit, given out in turn: what comes back has its turn in the next round. */
export interface IdPool {
  /** Where it goes on. */
  readonly next: number;
  /** How many are left. */
  readonly left: number;
  /** Throws RangeError when none is left. */
  take(): number;
  /** Gives back all but these. */
  retain(used: Set<number>): void;
}

export function createIdPool(limit: number, used: Set<number>, from: number): IdPool {
  let taken = used;
  let next = from;
  return {
    get next() {
      return next;
    },
    get left() {
      return limit - taken.size;
    },
    take() {
      if (taken.size >= limit) throw new RangeError(`all ${limit} ids are in use`);
      for (;;) {
        const id = next >= 1 && next <= limit ? next : 1;
        next = id + 1;
        if (taken.has(id)) continue;
        taken.add(id);
        return id;
      }
    },
    retain(kept) {
      taken = kept;
    },
  };
}
