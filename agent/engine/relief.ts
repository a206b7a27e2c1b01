import { flow_class, nat_class } from '../abi/generated.ts';

/** Shares of a table's capacity: above the first one room is made, down to the second. */
export const FILL = { high: 0.8, low: 0.7 } as const;

/** Who goes first. Established connections, and those on their way there, never go. */
export const FLOW_ORDER: readonly number[] = [
  flow_class.FLOW_CLOSING,
  flow_class.FLOW_HALF_OPEN,
  flow_class.FLOW_UNANSWERED,
  flow_class.FLOW_ANSWERED,
];
/** The same for NAT pairs without a CT entry. */
export const NAT_ORDER: readonly number[] = [
  nat_class.NAT_CLASS_CLOSING,
  nat_class.NAT_CLASS_SYN,
  nat_class.NAT_CLASS_ANY,
];

/**
 * An answered flow of UDP or ICMP is idle when so much of its timeout is left at most: its last
 * packet is at least a third of it ago.
 */
export const IDLE_LEFT = 2 / 3;

const CLASSES = 8;
const SECONDS = 1024;

/** How many entries must go so that the table is down to the low mark; 0 below the high one. */
export function reliefNeed(alive: number, capacity: number): number {
  if (alive <= FILL.high * capacity) return 0;
  return alive - Math.floor(FILL.low * capacity);
}

/** Entries by class and by what is left of their lifetime, whole seconds. */
export class Ages {
  readonly #counts = new Uint32Array(CLASSES * SECONDS);

  add(known: number, left: number): void {
    const at = slot(known, left);
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
  }

  count(known: number, left: number): number {
    return this.#counts[slot(known, left)] ?? 0;
  }
}

/** Lifetimes beyond the last second are all the same. */
function slot(known: number, left: number): number {
  return known * SECONDS + Math.min(SECONDS - 1, Math.max(0, left));
}

/**
 * Whom to take so that `need` entries go: class after class, and within a class first who has been
 * idle longest. Among those of the same second it is first come, first served.
 */
export class Quota {
  /** Entries still to be taken, by class and by what is left of their lifetime. */
  readonly #open = new Uint32Array(CLASSES * SECONDS);
  #left = 0;

  constructor(ages: Ages, order: readonly number[], need: number) {
    for (const known of order) {
      for (let second = 0; second < SECONDS && this.#left < need; second++) {
        const part = Math.min(ages.count(known, second), need - this.#left);
        this.#open[slot(known, second)] = part;
        this.#left += part;
      }
    }
  }

  /** Entries that are still to be taken. */
  get left(): number {
    return this.#left;
  }

  /** Takes an entry, if it is one of those to go. */
  take(known: number, left: number): boolean {
    const at = slot(known, left);
    const open = this.#open[at] ?? 0;
    if (open === 0) return false;
    this.#open[at] = open - 1;
    this.#left--;
    return true;
  }
}
