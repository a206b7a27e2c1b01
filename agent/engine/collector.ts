import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Logger } from './logger.ts';
import { type CollectedTable, collectTable, type PassResult } from './pass.ts';
import { createPasses } from './passes.ts';
import { createFill, createRelief } from './relief-turns.ts';
import type { ReliefResult, ReliefTools } from './relieve.ts';
import { createSchedule, type ScheduleSettings } from './schedule.ts';
import { createSerial } from './serial.ts';

const SPACING_MS = 1000;
/** Passes that are remembered. */
const HISTORY = 10;

/** Why a pass was made. */
export type PassReason = 'start' | 'interval' | 'request' | 'nat_pressure' | 'table_fill';

export interface CollectorOptions extends ReliefTools {
  /** The tables as they are now; asked at every pass, since a resize replaces them. */
  tables(): readonly CollectedTable[];
  schedule: ScheduleSettings;
  logger: Logger;
  /** After every table. */
  onPass(result: PassResult): void;
  /** After a table whose pass failed. */
  onFailure(table: CollectedTable, error: unknown): void;
  /** After a pass over all tables. */
  onRecord(record: PassRecord): void;
  /** After a table that was found too full. */
  onRelief?(result: ReliefResult): void;
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
  /** Other bounds, or another interval, from now on. */
  reschedule(settings: ScheduleSettings): void;
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

/** One table in which room was made. */
export interface ReliefRecord extends ReliefResult {
  /** When it was done, milliseconds since the epoch. */
  at: number;
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
  /** The last times that room was made, the latest first. */
  reliefs: ReliefRecord[];
}

/** Collects at once, then as the schedule has it, and on demand. */
export function startCollector(options: CollectorOptions): Collector {
  const { tables, logger, onRelief = () => {} } = options;
  const schedule = createSchedule(options.schedule, seconds());
  const status: Pick<CollectorStatus, 'runs' | 'lastRun' | 'passes' | 'history' | 'reliefs'> = {
    ...{ runs: 0, passes: [], history: [], reliefs: [] },
  };
  const passing = createSerial();
  const fill = createFill(options);
  const relief = createRelief({ tables, fill, tools: options, logger, onRelief: relieved });
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let reasons = new Set<PassReason>();

  function relieved(result: ReliefResult): void {
    status.reliefs = [{ ...result, at: Date.now() }, ...status.reliefs].slice(0, HISTORY);
    onRelief(result);
  }

  /** Its reasons are those of the triggers that share it; later ones get the next. */
  function pass(): Promise<PassResult[]> {
    const record = newRecord([...reasons]);
    reasons = new Set();
    return passing(async () => {
      const begun = seconds();
      record.at = status.lastRun = Date.now();
      const results = await sweep(options, record);
      for (const result of results) fill.counted(result, result.evicted);
      if (record.status === 'completed') schedule.passed(begun, expiredShares(results));
      else schedule.failed(begun);
      record.durationMs = (seconds() - begun) * 1000;
      record.intervalSeconds = schedule.interval;
      status.runs++;
      status.passes = results;
      status.history = [record, ...status.history].slice(0, HISTORY);
      options.onRecord(record);
      for (const family of FAMILIES) relief.ask(family);
      return results;
    }).finally(plan);
  }

  const passes = createPasses(pass, SPACING_MS);
  function run(reason: PassReason = 'request'): Promise<PassResult[]> {
    reasons.add(reason);
    return passes.trigger();
  }

  function plan(): void {
    clearTimeout(timer);
    if (stopped) return;
    const wait = Math.max(0, schedule.next - seconds());
    timer = setTimeout(() => run('interval').catch(() => {}), wait * 1000);
  }
  plan();
  run('start').catch(() => {});

  return {
    run,
    relieve: relief.ask,
    exclusive: (work) => passing(() => relief.exclusive(work)),
    status: () => ({
      ...status,
      intervalSeconds: schedule.interval,
      nextRun: Math.round(Date.now() + (schedule.next - seconds()) * 1000),
    }),
    reschedule(settings) {
      schedule.change(settings, seconds());
      plan();
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await passes.stop();
      await relief.stop();
    },
  };
}

/** Goes through all tables; what fails is written down, and the others are gone through. */
async function sweep(options: CollectorOptions, record: PassRecord): Promise<PassResult[]> {
  const results: PassResult[] = [];
  for (const table of options.tables()) {
    try {
      const result = await collectTable(table, options);
      record.deleted += result.deleted;
      results.push(result);
      options.onPass(result);
    } catch (error) {
      const { family, table: name } = table;
      options.logger.error({ err: error, family, table: name }, 'garbage collection failed');
      record.status = 'failed';
      record.error ??= `${family}/${name}: ${error instanceof Error ? error.message : error}`;
      options.onFailure(table, error);
    }
  }
  return results;
}

function newRecord(reasons: PassReason[]): PassRecord {
  const nothing = { at: 0, durationMs: 0, intervalSeconds: 0, deleted: 0 };
  return { ...nothing, reasons, status: 'completed' };
}

/** By table, the share of its capacity that had expired; NAT entries went with connections, too. */
function expiredShares(results: readonly PassResult[]): Map<string, number> {
  return new Map(
    results.map(({ family, table, deleted, capacity }) => {
      const others = table === 'snat' ? results.filter((other) => other.family === family) : [];
      const along = others.reduce((sum, { natDeleted }) => sum + natDeleted, 0);
      return [`${family}/${table}`, (deleted + along) / capacity];
    }),
  );
}

function seconds(): number {
  return performance.now() / 1000;
}
