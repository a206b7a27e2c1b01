import type { Family } from '../lib/ip.ts';
import type { Logger } from './logger.ts';
import { type CollectedTable, collectTable, type PassResult, type PassTools } from './pass.ts';
import { createPasses } from './passes.ts';
import { createSerial } from './serial.ts';

const SPACING_MS = 1000;
/** Passes that are remembered. */
const HISTORY = 10;

/** Why a pass was made. */
export type PassReason = 'start' | 'interval' | 'request' | 'nat_pressure' | 'table_fill';

export interface CollectorOptions extends PassTools {
  /** The tables as they are now; asked at every pass, since a resize replaces them. */
  tables(): readonly CollectedTable[];
  intervalMs: number;
  logger: Logger;
  /** After every table. */
  onPass(result: PassResult): void;
  /** After a table whose pass failed. */
  onFailure(table: CollectedTable, error: unknown): void;
  /** After a pass over all tables. */
  onRecord(record: PassRecord): void;
}

export interface Collector {
  /**
   * Asks for a pass over all tables; resolves with its figures, failed tables left out. What is
   * asked within a second shares one pass, which names all its reasons.
   */
  run(reason?: PassReason): Promise<PassResult[]>;
  /** Its tables may be above their bound: looks at once, and makes room where they are. */
  relieve(family: Family): void;
  /** Runs `work` while neither a pass nor a relief is under way; `work` must not wait for one. */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  status(): CollectorStatus;
  /** Another interval, from now on. */
  reschedule(intervalMs: number): void;
  stop(): Promise<void>;
}

/** One pass of the last ones. */
export interface PassRecord {
  /** When it began, milliseconds since the epoch. */
  at: number;
  reasons: PassReason[];
  /** `failed` when a table could not be gone through; it does not count for the interval. */
  status: 'completed' | 'failed';
  durationMs: number;
  /** As it was after the pass. */
  intervalSeconds: number;
  /** Of all tables. */
  deleted: number;
  error?: string;
}

export interface CollectorStatus {
  intervalSeconds: number;
  runs: number;
  /** Milliseconds since the epoch. */
  lastRun?: number;
  nextRun?: number;
  /** Figures of the last pass. */
  passes: PassResult[];
  /** The last passes, the latest first. */
  history: PassRecord[];
}

/** Collects every `intervalMs` from now on, and on demand. The first pass begins at once. */
export function startCollector(options: CollectorOptions): Collector {
  const { logger, onPass, onFailure } = options;
  const status: CollectorStatus = { intervalSeconds: 0, runs: 0, passes: [], history: [] };
  const alone = createSerial();
  let timer: NodeJS.Timeout | undefined;
  let reasons = new Set<PassReason>();

  async function sweep(record: PassRecord): Promise<PassResult[]> {
    const results: PassResult[] = [];
    for (const table of options.tables()) {
      try {
        const result = await collectTable(table, options);
        results.push(result);
        onPass(result);
      } catch (error) {
        const { family, table: name } = table;
        logger.error({ err: error, family, table: name }, 'garbage collection failed');
        record.status = 'failed';
        record.error ??= `${family}/${name}: ${error instanceof Error ? error.message : error}`;
        onFailure(table, error);
      }
    }
    return results;
  }

  function pass(): Promise<PassResult[]> {
    const why = [...reasons];
    reasons = new Set();
    return alone(async () => {
      const begun = performance.now();
      status.lastRun = Date.now();
      const record: PassRecord = {
        ...{ at: status.lastRun, reasons: why, status: 'completed', durationMs: 0 },
        ...{ intervalSeconds: status.intervalSeconds, deleted: 0 },
      };
      const results = await sweep(record);
      record.durationMs = performance.now() - begun;
      record.deleted = results.reduce((sum, { deleted }) => sum + deleted, 0);
      status.runs++;
      status.passes = results;
      status.history = [record, ...status.history].slice(0, HISTORY);
      options.onRecord(record);
      return results;
    });
  }

  const passes = createPasses(pass, SPACING_MS);
  function run(reason: PassReason = 'request'): Promise<PassResult[]> {
    reasons.add(reason);
    return passes.trigger();
  }

  function reschedule(intervalMs: number): void {
    status.intervalSeconds = intervalMs / 1000;
    const plan = () => {
      status.nextRun = Date.now() + intervalMs;
    };
    clearInterval(timer);
    timer = setInterval(() => {
      plan();
      run('interval').catch(() => {});
    }, intervalMs);
    plan();
  }
  reschedule(options.intervalMs);
  run('start').catch(() => {});

  return {
    run,
    relieve: () => void run('table_fill').catch(() => {}),
    exclusive: alone,
    status: () => ({ ...status }),
    reschedule,
    async stop() {
      clearInterval(timer);
      await passes.stop();
    },
  };
}
