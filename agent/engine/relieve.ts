import { flow_class } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { KeyGroup, type Pick, sift } from './key-group.ts';
import type { CollectedTable, PassTools } from './pass.ts';
import type { ReapOptions } from './reap.ts';
import { Ages, FLOW_ORDER, IDLE_LEFT, NAT_ORDER, Quota, reliefNeed } from './relief.ts';

/** What no pass has met yet goes with the first. */
const EXPIRED = flow_class.FLOW_CLOSING;

export interface ReliefTools extends PassTools {
  /** Seconds that a flow of UDP or ICMP lives after its last packet. */
  anyTimeout(): number;
}

/** What a relief of one table did. */
export interface ReliefResult {
  family: Family;
  table: ConnectionTable;
  capacity: number;
  /** Entries that were there, as counted. */
  before: number;
  /** Entries of this table that went, by class. */
  deleted: Record<string, number>;
  /** Entries that LRU took since the table was made, as counted. */
  evicted: number;
  durationMs: number;
}

/**
 * Makes room in those tables of a family that hold more than `FILL.high` of their capacity, down to
 * `FILL.low` where there is enough that may go. `isFull` is a guess, by which a table is counted or
 * not. Resolves with what was found in the tables that were counted.
 */
export async function relieveFamily(
  tables: readonly CollectedTable[],
  isFull: (table: CollectedTable) => boolean,
  tools: ReliefTools,
): Promise<ReliefResult[]> {
  const results: ReliefResult[] = [];
  const connections = tables.filter(({ table }) => table !== 'snat');
  for (const table of connections.filter(isFull)) {
    results.push(await relieveConnections(table, tools));
  }
  for (const table of tables.filter((table) => table.table === 'snat' && isFull(table))) {
    results.push(await relieveNat(table, connections, tools));
  }
  return results;
}

async function relieveConnections(
  table: CollectedTable,
  tools: ReliefTools,
): Promise<ReliefResult> {
  const begun = performance.now();
  const survey = await surveyTable(table, tools, { touch: true });
  const need = reliefNeed(survey.alive, table.capacity);
  const quota = new Quota(survey.ages, FLOW_ORDER, need);
  const deleted: Record<string, number> = {};
  await take(table, quota, survey, tools, deleted);
  return resultOf(table, survey, deleted, begun);
}

/** Through the connections whose pairs fill it, then pairs that have no connection any more. */
async function relieveNat(
  table: CollectedTable,
  connections: readonly CollectedTable[],
  tools: ReliefTools,
): Promise<ReliefResult> {
  const begun = performance.now();
  const survey = await surveyTable(table, tools);
  const deleted: Record<string, number> = {};
  const need = reliefNeed(survey.alive, table.capacity);
  if (need === 0) return resultOf(table, survey, deleted, begun);
  const ages = new Ages();
  const options = { touch: true, translated: true, ages };
  const surveys = [];
  for (const owner of connections) surveys.push(await surveyTable(owner, tools, options));
  const quota = new Quota(ages, FLOW_ORDER, Math.ceil(need / 2));
  let gone = 0;
  for (const [i, owner] of connections.entries()) {
    const base = surveys[i];
    if (base) gone += await take(owner, quota, { ...base, translated: true }, tools, deleted);
  }
  await takeOrphans(table, need - gone, tools, deleted);
  return resultOf(table, survey, deleted, begun);
}

function resultOf(
  { family, table, capacity }: CollectedTable,
  { alive: before, evicted }: Survey,
  deleted: Record<string, number>,
  begun: number,
): ReliefResult {
  const durationMs = performance.now() - begun;
  return { family, table, capacity, before, deleted, evicted, durationMs };
}

interface Survey {
  alive: number;
  evicted: number;
  ages: Ages;
  /** Seconds of the datapath's clock from which lifetimes are measured. */
  base: number;
  /** Only of connections that have NAT entries. */
  translated?: boolean;
}

/**
 * Counts a table. With `touch`, connections that are never to go are looked up by the program, which
 * makes them recently used: if LRU has to evict before there is room, then somebody else.
 */
async function surveyTable(
  table: CollectedTable,
  tools: ReliefTools,
  { touch = false, translated = false, ages = new Ages() } = {},
): Promise<Survey> {
  const { created } = tools.turnover(table.family, table.table);
  const base = tools.now();
  const kept = new KeyGroup(table.keySize, handOver(table, tools, { mode: 'relief' }));
  let alive = 0;
  await sift(table, (keys, key, values, value) => {
    alive++;
    if (translated && !table.isTranslated?.(values, value)) return undefined;
    const left = values.getUint32(value + table.expiresOffset, true) - base;
    const known = left > 0 ? table.classOf(keys, key, values, value) : EXPIRED;
    if (stays(table, known)) return touch ? kept : undefined;
    if (mayGo(table, known, left, tools)) ages.add(known, left);
    return undefined;
  });
  await kept.flush();
  const { deleted } = tools.turnover(table.family, table.table);
  return { alive, ages, base, evicted: Math.max(0, created - deleted - alive) };
}

/** Established, or on the way there. */
function stays({ table }: CollectedTable, known: number): boolean {
  return table !== 'snat' && known >= flow_class.FLOW_OPENING;
}

/** An answered flow may go once it is idle. */
function mayGo(
  { table }: CollectedTable,
  known: number,
  left: number,
  tools: ReliefTools,
): boolean {
  if (table === 'snat' || known !== flow_class.FLOW_ANSWERED) return true;
  return left <= IDLE_LEFT * tools.anyTimeout();
}

/** Takes connections by their quota. Resolves with the NAT entries that went with them. */
async function take(
  table: CollectedTable,
  quota: Quota,
  { base, translated }: Survey,
  tools: ReliefTools,
  deleted: Record<string, number>,
): Promise<number> {
  if (quota.left === 0) return 0;
  const idleUntil = base + Math.floor(IDLE_LEFT * tools.anyTimeout());
  const groups = new Map(
    FLOW_ORDER.map((known) => {
      const options: ReapOptions = { mode: 'relief', classes: 1 << known, idleUntil };
      return [known, new KeyGroup(table.keySize, handOver(table, tools, options))];
    }),
  );
  const pick: Pick = (keys, key, values, value) => {
    if (translated && !table.isTranslated?.(values, value)) return undefined;
    const left = values.getUint32(value + table.expiresOffset, true) - base;
    const known = left > 0 ? table.classOf(keys, key, values, value) : EXPIRED;
    const goes = mayGo(table, known, left, tools) && quota.take(known, left);
    return goes ? groups.get(known) : undefined;
  };
  await sift(table, pick, { isDone: () => quota.left === 0 });
  let pairs = 0;
  for (const [known, group] of groups) {
    await group.flush();
    const { natDeleted, deleted: own } = group.total;
    note(deleted, table.classes[known], translated ? natDeleted : own);
    pairs += natDeleted;
  }
  return pairs;
}

/** NAT pairs without a connection, until `need` entries have gone. */
async function takeOrphans(
  table: CollectedTable,
  need: number,
  tools: ReliefTools,
  deleted: Record<string, number>,
): Promise<void> {
  let open = need;
  for (const known of NAT_ORDER) {
    if (open <= 0) return;
    const options: ReapOptions = { mode: 'relief', classes: 1 << known };
    const group = new KeyGroup(table.keySize, async (keys, count) => {
      const result = await tools.reap(table.family, table.table, keys, count, options);
      open -= result.deleted + result.natDeleted;
      group.limit(Math.ceil(open / 2));
      return result;
    });
    group.limit(Math.ceil(open / 2));
    const pick: Pick = (keys, key, values, value) =>
      open > 0 && table.classOf(keys, key, values, value) === known ? group : undefined;
    await sift(table, pick, { isDone: () => open <= 0 });
    if (open > 0) await group.flush();
    note(deleted, `orphaned_${table.classes[known]}`, group.total.deleted + group.total.natDeleted);
  }
}

function note(deleted: Record<string, number>, name: string | undefined, count: number): void {
  if (name && count > 0) deleted[name] = (deleted[name] ?? 0) + count;
}

function handOver({ family, table }: CollectedTable, { reap }: ReliefTools, options: ReapOptions) {
  return (keys: Uint8Array, count: number) => reap(family, table, keys, count, options);
}
