import { kind, reap_limit } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import type { Logger } from './logger.ts';
import { PortUsage } from './nat-ports.ts';
import { createPasses } from './passes.ts';
import type { ReapResult } from './reap.ts';
import { type WalkedTable, walk } from './walk.ts';

const SPACING_MS = 1000;
const KEYS_PER_REAP = reap_limit.REAP_BATCH;

/** A table that is collected; `expires` stands at `expiresOffset` of its values. */
export interface CollectedTable extends WalkedTable {
  family: Family;
  table: ConnectionTable;
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
  /** Entries left, those that have expired but could not be deleted included. */
  alive: number;
  deleted: number;
  /** Expired when they were read, alive again or gone already when they were to be deleted. */
  skipped: number;
  /** Deletions that the kernel refused. */
  failed: number;
  /** NAT entries that were deleted along with their connections. */
  natDeleted: number;
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

export interface CollectorOptions {
  tables: readonly CollectedTable[];
  reap: ReapKeys;
  /** Seconds of the datapath's clock. */
  now(): number;
  /** Entries ever created in a table, and ever deleted. */
  turnover(family: Family, table: ConnectionTable): { created: number; deleted: number };
  intervalMs: number;
  logger: Logger;
  /** After every table. */
  onPass(result: PassResult): void;
  /** After a table whose pass failed. */
  onFailure(table: CollectedTable, error: unknown): void;
}

export interface Collector {
  /** Asks for a pass over all tables; resolves with its figures, failed tables left out. */
  run(): Promise<PassResult[]>;
  status(): CollectorStatus;
  /** Another interval, from now on. */
  reschedule(intervalMs: number): void;
  stop(): Promise<void>;
}

export interface CollectorStatus {
  intervalSeconds: number;
  runs: number;
  /** Milliseconds since the epoch. */
  lastRun?: number;
  nextRun?: number;
  passes: PassResult[];
}

/** Collects every `intervalMs` from now on, and on demand. The first pass begins at once. */
export function startCollector(options: CollectorOptions): Collector {
  const { tables, logger, onPass, onFailure } = options;
  const status: CollectorStatus = { intervalSeconds: 0, runs: 0, passes: [] };
  let timer: NodeJS.Timeout | undefined;

  async function pass(): Promise<PassResult[]> {
    const results: PassResult[] = [];
    status.lastRun = Date.now();
    for (const table of tables) {
      try {
        const result = await collectTable(table, options);
        results.push(result);
        onPass(result);
      } catch (error) {
        const { family, table: name } = table;
        logger.error({ err: error, family, table: name }, 'garbage collection failed');
        onFailure(table, error);
      }
    }
    status.runs++;
    status.passes = results;
    return results;
  }

  const passes = createPasses(pass, SPACING_MS);
  function reschedule(intervalMs: number): void {
    status.intervalSeconds = intervalMs / 1000;
    const plan = () => {
      status.nextRun = Date.now() + intervalMs;
    };
    clearInterval(timer);
    timer = setInterval(() => {
      plan();
      passes.trigger().catch(() => {});
    }, intervalMs);
    plan();
  }
  reschedule(options.intervalMs);
  passes.trigger().catch(() => {});

  return {
    run: () => passes.trigger(),
    status: () => ({ ...status }),
    reschedule,
    async stop() {
      clearInterval(timer);
      await passes.stop();
    },
  };
}

/** One pass over one table. An `snat` entry with `expires` 0 is being taken over: left alone. */
export async function collectTable(
  table: CollectedTable,
  { reap, now, turnover }: Pick<CollectorOptions, 'reap' | 'now' | 'turnover'>,
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
  { family, table }: CollectedTable,
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
    alive,
    deleted: sum('deleted'),
    skipped: sum('skipped'),
    failed: sum('failed'),
    natDeleted: sum('natDeleted'),
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
