import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../wait.ts';
import { type Answer, askOnce, openConnection, openFlow } from './names.ts';
import type { Target } from './tcp.ts';

/** Long-lived connections, one after the other, and sockets that send datagrams from one port. */
export type VisitKind = 'lasting' | 'short' | 'datagrams';

/** Who answers with a name, by a name of its own. */
export interface VisitTarget extends Target {
  target: string;
  /** First port of its lasting connections, and of its datagrams. */
  localPort: number;
}

export interface Visits {
  targets: VisitTarget[];
  /** Of each kind, how many at each target. */
  lasting?: number;
  short?: number;
  datagrams?: number;
}

/** How often who answered, and why there was no answer. */
export interface Tally {
  answered: Record<string, number>;
  failed: Record<string, number>;
}

/** One who asks all the time. */
export interface Visitor {
  target: string;
  kind: VisitKind;
  /** Questions that were answered or have failed. */
  turns: number;
  /** Why a lasting connection is no more. */
  over: string | null;
  /** By the epoch that they began in. */
  epochs: Record<number, Tally>;
}

const PAUSE_MS = 60;

let epoch = 0;
let running: { visitors: Visitor[]; stop: AbortController; done: Promise<unknown> } | undefined;

export const visits = {
  /** Sends visitors until `stopVisits`. Answers with the number of the epoch that begins. */
  startVisits({ targets, lasting = 12, short = 2, datagrams = 12 }: Visits) {
    if (running) throw new Error('visits are going on');
    const stop = new AbortController();
    const visitors: Visitor[] = [];
    const begin = (kind: VisitKind, target: VisitTarget, number: number) => {
      const visitor: Visitor = { target: target.target, kind, turns: 0, over: null, epochs: {} };
      visitors.push(visitor);
      const { host, port, localPort } = target;
      return send(visitor, { host, port, localPort: localPort + number }, stop.signal);
    };
    const many = (kind: VisitKind, target: VisitTarget, count: number) =>
      Array.from({ length: count }, (_, number) => begin(kind, target, number));
    epoch++;
    const tasks = targets.flatMap((target) => [
      ...many('lasting', target, lasting),
      ...many('short', target, short),
      ...many('datagrams', target, datagrams),
    ]);
    running = { visitors, stop, done: Promise.all(tasks) };
    return epoch;
  },

  /** Begins an epoch; answers with its number. */
  markVisits: () => ++epoch,

  /** Resolves when all that are not over have asked since, and had their answer. */
  async visitsCameRound() {
    const { visitors } = current();
    const due = visitors.map(({ turns }) => turns + 2);
    await until('every visitor to come round', () =>
      visitors.every(({ over, turns }, i) => over !== null || turns >= (due[i] ?? 0)),
    );
  },

  visitsSoFar: () => current().visitors,

  async stopVisits() {
    const { visitors, stop, done } = current();
    stop.abort();
    await done;
    running = undefined;
    return visitors;
  },
};

function current() {
  if (!running) throw new Error('no visits are going on');
  return running;
}

/** A short one comes from another port every time. */
async function send(visitor: Visitor, target: Target, stop: AbortSignal): Promise<void> {
  const { kind } = visitor;
  if (kind === 'short') {
    const { host, port } = target;
    return visit(visitor, () => askOnce({ host, port }), stop);
  }
  const asker = kind === 'lasting' ? openConnection(target) : await openFlow(target);
  await visit(visitor, () => asker.ask(`${visitor.target}/${epoch}`), stop);
  asker.close();
}

async function visit(
  visitor: Visitor,
  ask: () => Promise<Answer>,
  stop: AbortSignal,
): Promise<void> {
  while (!stop.aborted && visitor.over === null) {
    const tally = tallyOf(visitor);
    try {
      count(tally.answered, (await ask()).by);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      count(tally.failed, reason);
      if (visitor.kind === 'lasting') visitor.over = reason;
    }
    visitor.turns++;
    await sleep(PAUSE_MS);
  }
}

function tallyOf({ epochs }: Visitor): Tally {
  const tally = epochs[epoch] ?? { answered: {}, failed: {} };
  epochs[epoch] = tally;
  return tally;
}

function count(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}
