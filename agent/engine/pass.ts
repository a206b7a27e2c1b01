import { kind, reap_limit } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { PortUsage } from './nat-ports.ts';
import type { ReapResult } from './reap.ts';
import { type WalkedTable, walk } from './walk.ts';

const KEYS_PER_REAP = reap_limit.REAP_BATCH;

/** A table that is collected; `expires` stands at `expiresOffset` of its values. */
export interface CollectedTable extends WalkedTable {
  family: Family;
  table: ConnectionTable;
  /** Entries that it can hold. */
  capacity: number;
  expiresOffset: number;
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
  /** Deletions that the kernel refused. */
  failed: number;
  /** NAT entries that were deleted along with their connections. */
  natDeleted: number;
  /** NAT halves without their other half, which was brought back. */
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

/** Re-checks expired keys and deletes them. */
export type ReapKeys = (
  family: Family,
  table: ConnectionTable,
  keys: Uint8Array,
  count: number,
) => Promise<ReapResult>;

/** What a pass needs besides its table. */
export interface PassTools {
  reap: ReapKeys;
  /** Seconds of the datapath's clock. */
  now(): number;
  /** Entries ever created in a table, and ever deleted. */
  turnover(family: Family, table: ConnectionTable): { created: number; deleted: number };
}

/** One pass over one table. An `snat` entry with `expires` 0 is being taken over: left alone. */
export async function collectTable(
  table: CollectedTable,
  { reap, now, turnover }: PassTools,
): Promise<PassResult> {
  const begun = performance.now();
  const { created } = turnover(table.family, table.table);
  const isNat = table.table === 'snat';
  const ports = isNat ? new PortUsage() : undefined;
  const reapKeys = (keys: Uint8Array, count: number) =>
    reap(table.family, table.table, keys, count);
  const groups = {
    egress: new KeyGroup(table.keySize, reapKeys),
    ingress: new KeyGroup(table.keySize, reapKeys),
  };
  const { keySize, valueSize, expiresOffset } = table;

  for await (const { keys, values, count } of walk(table)) {
    const keyView = viewOf(keys);
    const valueView = viewOf(values);
    const at = now();
    for (let i = 0; i < count; i++) {
      const expires = valueView.getUint32(i * valueSize + expiresOffset, true);
      const reverse = isNat && keyView.getUint8(i * keySize + keySize - 3) === kind.KIND_IN;
      const group = reverse ? groups.ingress : groups.egress;
      group.seen++;
      if (expires > at || (isNat && expires === 0)) {
        if (reverse) ports?.add(keyView, i * keySize, keySize);
        continue;
      }
      group.push(keys, i);
      if (group.full) await group.flush();
    }
  }
  await groups.egress.flush();
  await groups.ingress.flush();
  const expected = created - turnover(table.family, table.table).deleted;
  return passResult(table, groups, expected, performance.now() - begun, ports?.max);
}

type Groups = Record<keyof Directions, KeyGroup>;

function passResult(
  { family, table, capacity }: CollectedTable,
  { egress, ingress }: Groups,
  expected: number,
  durationMs: number,
  portsUsedMax: number | undefined,
): PassResult {
  const sum = (field: 'alive' | 'deleted' | 'skipped' | 'failed' | 'natDeleted') =>
    egress[field] + ingress[field];
  const alive = sum('alive');
  return {
    family,
    table,
    capacity,
    alive,
    classes: {},
    deleted: sum('deleted'),
    skipped: sum('skipped'),
    failed: sum('failed'),
    natDeleted: sum('natDeleted'),
    completed: 0,
    evicted: Math.max(0, expected - alive),
    durationMs,
    ...(portsUsedMax !== undefined && {
      nat: {
        alive: { egress: egress.alive, ingress: ingress.alive },
        deleted: { egress: egress.deleted, ingress: ingress.deleted },
        portsUsedMax,
      },
    }),
  };
}

/** Expired keys of one direction, handed over a reap's worth at a time. */
class KeyGroup {
  readonly #reap: (keys: Uint8Array, count: number) => Promise<ReapResult>;
  readonly #keys: Uint8Array;
  readonly #keySize: number;
  #count = 0;
  seen = 0;
  deleted = 0;
  skipped = 0;
  failed = 0;
  natDeleted = 0;

  constructor(keySize: number, reap: (keys: Uint8Array, count: number) => Promise<ReapResult>) {
    this.#keySize = keySize;
    this.#keys = new Uint8Array(keySize * KEYS_PER_REAP);
    this.#reap = reap;
  }

  get alive(): number {
    return this.seen - this.deleted;
  }

  get full(): boolean {
    return this.#count === KEYS_PER_REAP;
  }

  push(keys: Uint8Array, index: number): void {
    const size = this.#keySize;
    const [from, to] = [index * size, this.#count * size];
    for (let i = 0; i < size; i++) this.#keys[to + i] = keys[from + i] ?? 0;
    this.#count++;
  }

  async flush(): Promise<void> {
    if (this.#count === 0) return;
    const count = this.#count;
    this.#count = 0;
    const result = await this.#reap(this.#keys, count);
    this.deleted += result.deleted;
    this.skipped += result.skipped;
    this.failed += result.failed;
    this.natDeleted += result.natDeleted;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
