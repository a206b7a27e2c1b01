import { flow_class } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import type { Guard } from './guard.ts';
import { KeyGroup, type Pick, sift } from './key-group.ts';
import { type CollectedTable, evictedOf, type PassTools } from './pass.ts';
import type { ReapOptions } from './reap.ts';
import {
  Ages,
  FLOW_ORDER,
  flowsWaitFrom,
  IDLE_LEFT,
  type Lifetimes,
  NAT_ORDER,
  NAT_STEPS,
  type NatStep,
  pairsWaitFrom,
  Quota,
  reliefNeed,
} from './relief.ts';

/** What no pass has met yet goes with the first. */
const EXPIRED = flow_class.FLOW_CLOSING;

export interface ReliefTools extends PassTools {
  lifetimes(): Lifetimes;
}

/** What a relief of one table did. */
export interface ReliefResult {
  family: Family;
  table: ConnectionTable;
  capacity: number;
  /** Entries that were there, as counted. */
  before: number;
  /** Do those that must stay take too much of it? */
  overfull: boolean;
  /** Entries of this table that went, by class. */
  deleted: Record<string, number>;
  /** Entries that LRU took since the table was made, as counted. */
  evicted: number;
  durationMs: number;
}

/**
 * Makes room in those tables of a family that hold more than `FILL.high` of their capacity, down to
 * `FILL.low` where there is enough that may go. `isFull` is a guess, by which a table is counted or
 * not; `guard` keeps LRU off the others meanwhile. Resolves with what was found in the tables that
 * were counted.
 */
export async function relieveFamily(
  tables: readonly CollectedTable[],
  isFull: (table: CollectedTable) => boolean,
  guard: Guard,
  tools: ReliefTools,
): Promise<ReliefResult[]> {
  const results: ReliefResult[] = [];
  for (const table of tables) {
    if (!isFull(table)) continue;
    await guard.keep();
    const begun = performance.now();
    const survey = await surveyTable(table, tools);
    const { need } = survey;
    if (!survey.overfull) await guard.keep();
    const relieve = table.table === 'snat' ? relieveNat : relieveConnections;
    const deleted = need === 0 ? {} : await relieve(table, survey, guard, tools);
    const { family, table: name, capacity } = table;
    const { alive: before, overfull, evicted } = survey;
    const durationMs = performance.now() - begun;
    results.push({ family, table: name, capacity, before, overfull, deleted, evicted, durationMs });
  }
  return results;
}

interface Survey {
  alive: number;
  /** Entries that must go. */
  need: number;
  evicted: number;
  /** Then `ages` is without flows that may be waiting for their answer: they are not taken. */
  overfull: boolean;
  ages: Ages;
  /** Seconds of the datapath's clock from which lifetimes are measured. */
  base: number;
}

/**
 * Counts a table, and in it those who may go. Where all of them together would not suffice, the
 * table is too small for what must stay: flows that are just beginning are left in peace then, or
 * none would ever get through.
 */
async function surveyTable(table: CollectedTable, tools: ReliefTools): Promise<Survey> {
  const { created } = tools.turnover(table.family, table.table);
  const base = tools.now();
  const [all, answeredOrOld] = [new Ages(), new Ages()];
  const look = looker(table, base, tools);
  let alive = 0;
  await sift(table, (keys, key, values, value) => {
    alive++;
    const { known, left, may, waits } = look(keys, key, values, value);
    if (may) all.add(known, left);
    if (may && !waits) answeredOrOld.add(known, left);
    return undefined;
  });
  const { deleted } = tools.turnover(table.family, table.table);
  const need = reliefNeed(alive, table.capacity);
  const overfull = new Quota(all, table.table === 'snat' ? NAT_ORDER : FLOW_ORDER, need).isAll;
  const ages = overfull ? answeredOrOld : all;
  const evicted = evictedOf(table, created - deleted - alive);
  return { alive, need, overfull, ages, base, evicted };
}

/** Reads class and age off an entry; an answered flow may go once it is idle. */
function looker(table: CollectedTable, base: number, tools: ReliefTools) {
  const { expiresOffset } = table;
  const isNat = table.table === 'snat';
  const lifetimes = tools.lifetimes();
  const waitFrom = isNat ? pairsWaitFrom(lifetimes) : flowsWaitFrom(lifetimes);
  const idle = IDLE_LEFT * lifetimes.any;
  const entry = { known: 0, left: 0, may: false, waits: false };
  return (keys: DataView, key: number, values: DataView, value: number) => {
    entry.left = values.getUint32(value + expiresOffset, true) - base;
    const expired = !isNat && entry.left <= 0;
    entry.known = expired ? EXPIRED : table.classOf(keys, key, values, value);
    entry.may =
      isNat ||
      (entry.known < flow_class.FLOW_OPENING &&
        !(entry.known === flow_class.FLOW_ANSWERED && entry.left > idle));
    entry.waits = entry.left >= (waitFrom.get(entry.known) ?? Infinity);
    return entry;
  };
}

type Relieve = (
  table: CollectedTable,
  survey: Survey,
  guard: Guard,
  tools: ReliefTools,
) => Promise<Record<string, number>>;

const relieveConnections: Relieve = async (table, { ages, base, need }, _guard, tools) => {
  const quota = new Quota(ages, FLOW_ORDER, need);
  const idleUntil = idleAt(base, tools);
  const groups = new Map(
    FLOW_ORDER.map((known) => [
      known,
      new KeyGroup(table.keySize, handOver(table, tools, { classes: 1 << known, idleUntil })),
    ]),
  );
  const look = looker(table, base, tools);
  const pick: Pick = (...entry) => {
    const { known, left, may } = look(...entry);
    return may && quota.take(known, left) ? groups.get(known) : undefined;
  };
  if (quota.left > 0) await sift(table, pick, { isDone: () => quota.left === 0 });
  const deleted: Record<string, number> = {};
  for (const [known, group] of groups) {
    await group.flush();
    note(deleted, table.classes[known], group.total.deleted);
  }
  return deleted;
};

/**
 * NAT pairs, each with its connection where there is one: it is what the connection is worth that
 * decides. First who has been silent longest; when too many of those stay, whoever comes.
 */
const relieveNat: Relieve = async (table, { ages, base, need, overfull }, guard, tools) => {
  const deleted: Record<string, number> = {};
  let open = need;
  for (const step of NAT_STEPS) {
    for (const quota of [new Quota(ages, [step.half], open), undefined]) {
      if (open <= 0) return deleted;
      const gone = await takePairs(table, { step, quota, open, base, overfull }, tools);
      note(deleted, step.name, gone);
      open -= gone;
      if (!overfull) await guard.keep();
      if (quota?.isAll) break;
    }
  }
  return deleted;
};

interface Taking {
  step: NatStep;
  quota: Quota | undefined;
  /** Entries that may go at most. */
  open: number;
  base: number;
  overfull: boolean;
}

/** Resolves with the NAT entries that went. */
async function takePairs(
  table: CollectedTable,
  { step, quota, open, base, overfull }: Taking,
  tools: ReliefTools,
): Promise<number> {
  const { half, owners: classes, orphans } = step;
  const reap = handOver(table, tools, { classes, orphans, idleUntil: idleAt(base, tools) });
  let gone = 0;
  const group = new KeyGroup(table.keySize, async (keys, count) => {
    const result = await reap(keys, count);
    gone += result.deleted + result.natDeleted;
    group.limit(Math.ceil((open - gone) / 2));
    return result;
  });
  group.limit(Math.ceil(open / 2));
  const look = looker(table, base, tools);
  const pick: Pick = (...entry) => {
    if (gone >= open) return undefined;
    const { known, left, waits } = look(...entry);
    if (overfull && waits) return undefined;
    return known === half && (!quota || quota.take(known, left)) ? group : undefined;
  };
  await sift(table, pick, { isDone: () => gone >= open || quota?.left === 0 });
  if (gone < open) await group.flush();
  return gone;
}

function idleAt(base: number, tools: ReliefTools): number {
  return base + Math.floor(IDLE_LEFT * tools.lifetimes().any);
}

function note(deleted: Record<string, number>, name: string | undefined, count: number): void {
  if (name && count > 0) deleted[name] = (deleted[name] ?? 0) + count;
}

function handOver(
  { family, table }: CollectedTable,
  { reap }: ReliefTools,
  options: Omit<ReapOptions, 'mode'>,
) {
  return (keys: Uint8Array, count: number) =>
    reap(family, table, keys, count, { mode: 'relief', ...options });
}
