import { flow_class, kind } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { KeyGroup, type Pick, sift } from './key-group.ts';
import { PortUsage } from './nat-ports.ts';
import { PairBalance } from './pair-balance.ts';
import type { ReapOptions, ReapResult } from './reap.ts';
import { IDLE_LEFT, type Lifetimes } from './relief.ts';
import { readSocketPorts, type SocketPorts } from './socket-ports.ts';
import type { WalkedTable } from './walk.ts';

/** Bytes from the end of a key to its kind, and to its protocol. */
const KIND_FROM_END = 3;
const PROTO_FROM_END = 4;

/** A table that is collected; `expires` stands at `expiresOffset` of its values. */
export interface CollectedTable extends WalkedTable {
  family: Family;
  table: ConnectionTable;
  /** Entries that it can hold. */
  capacity: number;
  /** A resize that failed has left entries in another map: evictions cannot be told. */
  isHalfway?: boolean;
  expiresOffset: number;
  /** Names of what `classOf` answers. */
  classes: readonly string[];
  /** Class of an entry, by its key and its value at these offsets. */
  classOf(keys: DataView, key: number, values: DataView, value: number): number;
  /** Where a value holds what it, or the connection, is translated to. */
  mapping: { address: number; port: number };
}

/** Entries by the half of the pair they are: forward is egress, reverse is ingress. */
export interface Directions {
  egress: number;
  ingress: number;
}

/** What a pass over one table did. */
export interface PassResult {
  family: Family;
  table: ConnectionTable;
  capacity: number;
  /** Entries left, those that have expired but could not be deleted included. */
  alive: number;
  /** Entries left, by class: those of `FlowClass`, or in `snat` those of `NatClass`. */
  classes: Readonly<Record<string, number>>;
  deleted: number;
  /** Expired when they were read, alive again or gone already when they were to be deleted. */
  skipped: number;
  /** Deletions and insertions that the kernel refused. */
  failed: number;
  /** NAT entries that were deleted along with their connections. */
  natDeleted: number;
  /** NAT halves whose other half was brought back; in CT, connections whose pair was. */
  completed: number;
  /**
   * Entries that LRU took since the table was made. A lower bound: what is created or deleted
   * during the pass may hide some of them until the next one.
   */
  evicted: number;
  durationMs: number;
  /** `snat` only. */
  nat?: { alive: Directions; deleted: Directions; portsUsedMax: number };
}

/** Looks at each key once more, and does to its entry what the mode says. */
export type ReapKeys = (
  family: Family,
  table: ConnectionTable,
  keys: Uint8Array,
  count: number,
  options?: ReapOptions,
) => Promise<ReapResult>;

/** What a pass needs besides its table. */
export interface PassTools {
  reap: ReapKeys;
  /** Seconds of the datapath's clock. */
  now(): number;
  /** Entries ever created in a table, and ever deleted. */
  turnover(family: Family, table: ConnectionTable): { created: number; deleted: number };
  /** Are lost NAT halves to be brought back? */
  restores?(): boolean;
  /** Also those of connections that have lost both? It costs three lookups for each. */
  recreates?: Lifetimes;
  /** Asked where there are halves to complete; by default, the sockets of this process's node. */
  socketPorts?(): Promise<SocketPorts>;
}

/**
 * One pass over one table: what has expired goes, and lost NAT halves come back. An entry with
 * `expires` 0 is claimed by who takes it over or deletes it, and goes when it still is.
 */
export async function collectTable(table: CollectedTable, tools: PassTools): Promise<PassResult> {
  const begun = performance.now();
  const { family, table: name } = table;
  const { created } = tools.turnover(family, name);
  const tally = new Tally(table, tools);
  await sift(table, tally.pick, { onBatch: () => tally.look(tools.now()) });
  await tally.flush();
  const isBereft = name === 'snat' ? loneHalf(tally.pairs) : pairless(table, tools);
  const completion = isBereft && (await complete(table, isBereft, tools));
  const { deleted } = tools.turnover(family, name);
  return tally.result(created - deleted, completion, performance.now() - begun);
}

/** What a pass has seen and deleted. */
class Tally {
  readonly pairs: PairBalance | undefined;
  readonly #table: CollectedTable;
  readonly #ports: PortUsage | undefined;
  readonly #groups: Record<keyof Directions, KeyGroup>;
  readonly #claimed: Record<keyof Directions, KeyGroup>;
  readonly #seen: Directions = { egress: 0, ingress: 0 };
  readonly #classes = new Uint32Array(16);
  #now = 0;

  constructor(table: CollectedTable, { reap, restores }: PassTools) {
    this.#table = table;
    const group = (options?: ReapOptions) =>
      new KeyGroup(table.keySize, (keys, count) =>
        reap(table.family, table.table, keys, count, options),
      );
    this.#groups = { egress: group(), ingress: group() };
    const claimed = { mode: 'claimed' } as const;
    this.#claimed = { egress: group(claimed), ingress: group(claimed) };
    if (table.table !== 'snat') return;
    this.#ports = new PortUsage();
    if (restores?.()) this.pairs = new PairBalance(table, table.mapping);
  }

  /** What has expired by now goes. */
  look(now: number): void {
    this.#now = now;
  }

  readonly pick: Pick = (keys, key, values, value) => {
    const { keySize, expiresOffset, table } = this.#table;
    const isNat = table === 'snat';
    const expires = values.getUint32(value + expiresOffset, true);
    const reverse = isNat && keys.getUint8(key + keySize - KIND_FROM_END) === kind.KIND_IN;
    const direction = reverse ? 'ingress' : 'egress';
    this.#seen[direction]++;
    if (expires === 0) return this.#claimed[direction];
    if (expires <= this.#now) return this.#groups[direction];
    const known = this.#table.classOf(keys, key, values, value);
    this.#classes[known] = (this.#classes[known] ?? 0) + 1;
    if (reverse) this.#ports?.add(keys, key, keySize);
    this.pairs?.add(keys, key, values, value, reverse);
    return undefined;
  };

  async flush(): Promise<void> {
    for (const groups of [this.#groups, this.#claimed]) {
      await groups.egress.flush();
      await groups.ingress.flush();
    }
  }

  /** `balance` is what was created, when the pass began, less what was deleted by its end. */
  result(balance: number, completion: ReapResult | undefined, durationMs: number): PassResult {
    const { family, table, capacity, classes } = this.#table;
    const out = sum(this.#groups.egress.total, this.#claimed.egress.total);
    const back = sum(this.#groups.ingress.total, this.#claimed.ingress.total);
    const left = {
      egress: this.#seen.egress - out.deleted,
      ingress: this.#seen.ingress - back.deleted,
    };
    const completed = completion?.completed ?? 0;
    const leftOver = completion?.deleted ?? 0;
    const added = table === 'snat' ? completed : 0;
    const alive = left.egress + left.ingress + added - leftOver;
    const nat = this.#ports && {
      alive: left,
      deleted: { egress: out.deleted, ingress: back.deleted },
      portsUsedMax: this.#ports.max,
    };
    return {
      ...{ family, table, capacity, alive },
      classes: Object.fromEntries(classes.map((name, i) => [name, this.#classes[i] ?? 0])),
      deleted: out.deleted + back.deleted + leftOver,
      skipped: out.skipped + back.skipped,
      failed: out.failed + back.failed + (completion?.failed ?? 0),
      natDeleted: out.natDeleted + back.natDeleted,
      completed,
      evicted: evictedOf(this.#table, balance + added - alive),
      durationMs,
      ...(nat && { nat }),
    };
  }
}

function sum(one: ReapResult, other: ReapResult) {
  return {
    deleted: one.deleted + other.deleted,
    skipped: one.skipped + other.skipped,
    failed: one.failed + other.failed,
    natDeleted: one.natDeleted + other.natDeleted,
  };
}

/**
 * Entries that LRU took, at least: `missing` is what was created before a count, less what was
 * deleted until its end, less what it met.
 */
export function evictedOf({ isHalfway }: CollectedTable, missing: number): number {
  return isHalfway ? 0 : Math.max(0, missing);
}

/** May something be missing beside this live entry? */
type Bereft = (
  keys: DataView,
  key: number,
  values: DataView,
  value: number,
  reverse: boolean,
  /** Seconds that it has left. */
  left: number,
) => boolean;

/** NAT halves that may be alone; undefined when there are none. */
function loneHalf(pairs: PairBalance | undefined): Bereft | undefined {
  if (!pairs || pairs.isLevel) return undefined;
  return (keys, key, values, value, reverse) => pairs.isOdd(keys, key, values, value, reverse);
}

/** Connections that relief would leave alone, and that must have a pair; undefined for none. */
function pairless(
  { keySize, mapping, classOf }: CollectedTable,
  { restores, recreates }: PassTools,
): Bereft | undefined {
  if (!recreates || !restores?.()) return undefined;
  const idle = IDLE_LEFT * recreates.any;
  return (keys, key, values, value, _reverse, left) => {
    if (keys.getUint8(key + keySize - KIND_FROM_END) !== kind.KIND_OUT) return false;
    if (values.getUint16(value + mapping.port) === 0) return false;
    const known = classOf(keys, key, values, value);
    return known === flow_class.FLOW_ANSWERED ? left > idle : known > flow_class.FLOW_ANSWERED;
  };
}

/**
 * Hands over what may lack a half. A port that a socket of the node has by now is nobody else's:
 * whether its flow gets another one is for the flow's packets to decide.
 */
async function complete(
  table: CollectedTable,
  isBereft: Bereft,
  { reap, now, socketPorts = readSocketPorts }: PassTools,
): Promise<ReapResult> {
  const { keySize, expiresOffset, mapping } = table;
  const sockets = await socketPorts();
  const group = new KeyGroup(keySize, (keys, count) =>
    reap(table.family, table.table, keys, count, { mode: 'complete' }),
  );
  let at = 0;
  const pick: Pick = (keys, key, values, value) => {
    const left = values.getUint32(value + expiresOffset, true) - at;
    if (left <= 0) return undefined;
    const reverse = keys.getUint8(key + keySize - KIND_FROM_END) === kind.KIND_IN;
    if (!isBereft(keys, key, values, value, reverse, left)) return undefined;
    const proto = keys.getUint8(key + keySize - PROTO_FROM_END);
    const wanted = reverse ? undefined : values.getUint16(value + mapping.port);
    return wanted !== undefined && sockets.has(proto, wanted) ? undefined : group;
  };
  await sift(table, pick, {
    onBatch() {
      at = now();
    },
  });
  await group.flush();
  return group.total;
}
