import { flow_class, nat_class } from '../abi/generated.ts';

/**
 * Shares of a table's capacity: above `watch` LRU is kept off the connections that must stay; above
 * `high` room is made, down to `low`.
 */
export const FILL = { watch: 0.5, low: 0.7, high: 0.8 } as const;

/** Who goes first. Established connections, and those on their way there, never go. */
export const FLOW_ORDER: readonly number[] = [
  flow_class.FLOW_CLOSING,
  flow_class.FLOW_HALF_OPEN,
  flow_class.FLOW_UNANSWERED,
  flow_class.FLOW_ANSWERED,
];
/** NAT pairs of one class (`nat_class`): whose they may be, if they are anybody's. */
export interface NatStep {
  name: string;
  half: number;
  /** Bits of `flow_class`: pairs of these connections go, with the connection. */
  owners: number;
  /** Bits of `nat_class`: pairs of this class go that have no connection any more. */
  orphans: number;
}

const { NAT_CLASS_CLOSING, NAT_CLASS_SYN, NAT_CLASS_ANY } = nat_class;

/** The same order for NAT pairs; those of UDP without a connection, which may be anything, last. */
export const NAT_STEPS: readonly NatStep[] = [
  natStep('closing', NAT_CLASS_CLOSING, [flow_class.FLOW_CLOSING], true),
  natStep('half_open', NAT_CLASS_SYN, [flow_class.FLOW_HALF_OPEN], true),
  natStep('unanswered', NAT_CLASS_ANY, [flow_class.FLOW_UNANSWERED], false),
  natStep('answered', NAT_CLASS_ANY, [flow_class.FLOW_ANSWERED], false),
  natStep('orphaned', NAT_CLASS_ANY, [], true),
];

/** Classes of NAT pairs that may go. */
export const NAT_ORDER: readonly number[] = [...new Set(NAT_STEPS.map(({ half }) => half))];

function natStep(name: string, half: number, owners: number[], orphans: boolean): NatStep {
  const bits = owners.reduce((sum, known) => sum | (1 << known), 0);
  return { name, half, owners: bits, orphans: orphans ? 1 << half : 0 };
}

/** Seconds that a flow lives after its last packet. */
export interface Lifetimes {
  /** TCP that is half-open. */
  tcpSyn: number;
  /** UDP, ICMP and the rest. */
  any: number;
}

/** Seconds after its last packet in which a flow may be waiting for its first answer. */
const ANSWER_SECONDS = 2;

/** By flow class, what is left at least to a flow that may be waiting for its first answer. */
export function flowsWaitFrom({ tcpSyn, any }: Lifetimes): ReadonlyMap<number, number> {
  return new Map([
    [flow_class.FLOW_HALF_OPEN, tcpSyn - ANSWER_SECONDS],
    [flow_class.FLOW_UNANSWERED, any - ANSWER_SECONDS],
  ]);
}

/** The same of a NAT pair, by its class. */
export function pairsWaitFrom({ tcpSyn, any }: Lifetimes): ReadonlyMap<number, number> {
  return new Map([
    [NAT_CLASS_SYN, tcpSyn - ANSWER_SECONDS],
    [NAT_CLASS_ANY, any - ANSWER_SECONDS],
  ]);
}

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
    this.isAll = this.#left < need;
  }

  /** Are all that were counted to be taken? */
  readonly isAll: boolean;

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
