import { FAMILIES, type Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import type { Datapath } from './datapath.ts';
import type { Logger } from './logger.ts';
import { finishResize, resizeTable } from './resize.ts';
import { type Capacities, checkSizes, type SizeChange } from './resize-check.ts';
import { PINNED_AS, SIZED_TABLES, type SizedTable } from './sizing.ts';

export type ResizeReason = 'request' | 'growth';

/** One table, of one family or more, that is to have another size. */
export interface ResizeOrder {
  table: SizedTable;
  families: readonly Family[];
  entries: number;
  reason: ResizeReason;
}

/** What became of one table. */
export interface ResizeResult {
  family: Family;
  table: ConnectionTable;
  /** `unchanged`: it had this size already. */
  status: 'resized' | 'unchanged';
  /** Entries that it could hold before, and can now. */
  from: number;
  to: number;
  /** Entries that were copied; those that traffic had moved already are not among them. */
  copied: number;
  durationMs: number;
}

export interface ResizerOptions {
  bpffs: string;
  datapath: Datapath;
  /** Runs work while no pass over the tables is under way. */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  /** Bytes that all tables may take together. */
  bound: number;
  /** CPUs that have a free list of their own in every table. */
  cpus: number;
  /** After every table that was given another size, or could not be. */
  onResize(resize: {
    family: Family;
    table: ConnectionTable;
    reason: ResizeReason;
    status: 'completed' | 'failed';
  }): void;
  logger: Logger;
}

export interface Resizer extends AsyncDisposable {
  /**
   * Resizes tables one after the other, and no pass runs meanwhile. Throws, before anything is
   * changed, for a size that cannot be (E_USAGE, E_CONFLICT).
   */
  resize(order: ResizeOrder): Promise<ResizeResult[]>;
  /** Finishes what an earlier run of the daemon left half-way. Failures are logged. */
  resume(): Promise<void>;
  capacities(): Capacities;
  /** False while entries of a table may be in two maps. */
  isSettled(family: Family, table: ConnectionTable): boolean;
}

/** Disposing leaves a copy that is under way to the next start. */
export function createResizer(options: ResizerOptions): Resizer {
  const { bpffs, datapath, exclusive, onResize, logger } = options;
  const halt = new AbortController();
  const context = { bpffs, maps: datapath, signal: halt.signal };
  const changing = new Set<string>();
  let running: Promise<unknown> = Promise.resolve();

  function alone<T>(work: () => Promise<T>): Promise<T> {
    const result = exclusive(async () => {
      halt.signal.throwIfAborted();
      return work();
    });
    running = result.catch(() => {});
    return result;
  }

  async function finishAll(): Promise<void> {
    for (const family of FAMILIES) {
      for (const table of Object.values(PINNED_AS)) {
        if (!datapath.previous(family, table)) continue;
        const { copied } = await finishResize(context, family, table);
        logger.info({ family, table, copied }, 'resize that was cut short is finished');
      }
    }
  }

  async function resizeOne(family: Family, { table: key, entries, reason }: ResizeOrder) {
    const table = PINNED_AS[key];
    const from = datapath.map(family, table).maxEntries;
    const result: ResizeResult = {
      ...{ family, table, status: 'unchanged', from, to: entries },
      ...{ copied: 0, durationMs: 0 },
    };
    if (from === entries) return result;
    const begun = performance.now();
    changing.add(`${family}/${table}`);
    try {
      const { copied } = await resizeTable(context, family, table, entries);
      const durationMs = performance.now() - begun;
      logger.info({ family, table, from, to: entries, copied, reason }, 'table resized');
      onResize({ family, table, reason, status: 'completed' });
      return { ...result, status: 'resized', copied, durationMs } satisfies ResizeResult;
    } catch (error) {
      logger.error({ err: error, family, table, from, to: entries, reason }, 'resize failed');
      onResize({ family, table, reason, status: 'failed' });
      throw error;
    } finally {
      changing.delete(`${family}/${table}`);
    }
  }

  return {
    capacities: () => capacitiesOf(datapath),
    isSettled: (family, table) =>
      !changing.has(`${family}/${table}`) && !datapath.previous(family, table),
    resize: (order) =>
      alone(async () => {
        await finishAll();
        const changes = await changesOf(order, datapath);
        checkSizes(changes, { ...options, capacities: capacitiesOf(datapath) });
        const results: ResizeResult[] = [];
        for (const family of order.families) results.push(await resizeOne(family, order));
        return results;
      }),
    async resume() {
      if (!isHalfway(datapath)) return;
      await alone(finishAll).catch((error: unknown) => {
        if (!halt.signal.aborted) logger.error({ err: error }, 'resize is still unfinished');
      });
    },
    async [Symbol.asyncDispose]() {
      halt.abort(new Error('the agent stops'));
      await running;
    },
  };
}

/** Counts what tables hold that are to be smaller, or little larger. */
async function changesOf(
  { table, families, entries }: ResizeOrder,
  datapath: Datapath,
): Promise<SizeChange[]> {
  const changes: SizeChange[] = [];
  for (const family of families) {
    const map = datapath.map(family, PINNED_AS[table]);
    if (map.maxEntries === entries) continue;
    changes.push({ family, table, entries, held: await map.count() });
  }
  return changes;
}

function isHalfway(datapath: Datapath): boolean {
  return FAMILIES.some((family) =>
    Object.values(PINNED_AS).some((table) => datapath.previous(family, table)),
  );
}

function capacitiesOf(datapath: Datapath): Capacities {
  const all = FAMILIES.flatMap((family) =>
    SIZED_TABLES.map((table) => {
      const map = datapath.map(family, PINNED_AS[table]);
      return [`${family}/${table}`, map.maxEntries] as const;
    }),
  );
  return Object.fromEntries(all) as Record<keyof Capacities, number>;
}
