import { FAMILIES, type Family } from '../lib/ip.ts';
import { createAlarm } from './alarm.ts';
import { createPasses } from './passes.ts';
import {
  newRecords,
  notePass,
  noteRelief,
  type PassReason,
  type PassRecord,
  type Records,
} from './records.ts';
import { createFill, createRelief, type Fill, type Relief } from './relief-turns.ts';
import type { ReliefResult, ReliefTools } from './relieve.ts';
import { createSchedule, type Schedule, type ScheduleSettings } from './schedule.ts';
import { createSerial } from './serial.ts';
import { expiredShares, type Sweep, type SweepOptions, sweepTables } from './sweep.ts';

const SPACING_MS = 1000;

export interface CollectorOptions extends SweepOptions, ReliefTools {
  schedule: ScheduleSettings;
  /** From the beginning of a pass to that of the next at least; a second by default. */
  spacingMs?: number;
  /** After a pass over all tables. */
  onRecord(record: PassRecord): void;
  /** After a table that was found too full. */
  onRelief?(result: ReliefResult): void;
}

export interface Collector {
  /**
   * Asks for a pass over all tables; resolves with its figures, and with the tables that it could
   * not go through. What is asked within a second shares one pass, which names all its reasons.
   */
  run(reason?: PassReason): Promise<Sweep>;
  /** Its tables may be above their bound: looks at once, and makes room where they are. */
  relieve(family: Family): void;
  /** Runs `work` while neither a pass nor a relief is under way; `work` must not wait for one. */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  status(): CollectorStatus;
  /** Other bounds, or another interval, from now on. */
  reschedule(settings: ScheduleSettings): void;
  stop(): Promise<void>;
}

export interface CollectorStatus extends Records {
  intervalSeconds: number;
  /** Milliseconds since the epoch. */
  nextRun?: number;
}

/** Collects at once, then as the schedule has it, and on demand. */
export function startCollector(options: CollectorOptions): Collector {
  const parts = createParts(options);
  const { schedule, records, relief } = parts;
  const passing = createSerial();
  const alarm = createAlarm(seconds, () => run('interval').catch(() => {}));
  const plan = () => alarm.set(schedule.next);
  let reasons = new Set<PassReason>();

  const passes = createPasses(() => {
    const shared = [...reasons];
    reasons = new Set();
    return passing(() => pass(parts, shared)).finally(plan);
  }, options.spacingMs ?? SPACING_MS);
  function run(reason: PassReason = 'request'): Promise<Sweep> {
    reasons.add(reason);
    return passes.trigger();
  }
  plan();
  run('start').catch(() => {});

  return {
    run,
    relieve: relief.ask,
    exclusive: (work) => passing(() => relief.exclusive(work)),
    status: () => ({ ...records, ...timing(schedule) }),
    reschedule(settings) {
      schedule.change(settings, seconds());
      plan();
    },
    async stop() {
      alarm.stop();
      await passes.stop();
      await relief.stop();
    },
  };
}

interface Parts {
  options: CollectorOptions;
  schedule: Schedule;
  records: Records;
  fill: Fill;
  relief: Relief;
}

function createParts(options: CollectorOptions): Parts {
  const { tables, logger } = options;
  const schedule = createSchedule(options.schedule, seconds());
  const records = newRecords();
  const fill = createFill(options);
  const onRelief = (result: ReliefResult) => {
    noteRelief(records, result);
    options.onRelief?.(result);
  };
  const relief = createRelief({ tables, fill, tools: options, logger, onRelief });
  return { options, schedule, records, fill, relief };
}

/** One pass, written down; relief looks at what it has counted. */
async function pass(parts: Parts, reasons: PassReason[]): Promise<Sweep> {
  const { options, schedule, records, fill, relief } = parts;
  const begun = seconds();
  const at = Date.now();
  records.lastRun = at;
  const bereft = reasons.includes('half_lost') && { recreates: options.lifetimes() };
  const swept = await sweepTables({ ...options, ...bereft });
  for (const result of swept.passes) fill.counted(result, result.evicted);
  const [failure] = swept.failures;
  if (failure) schedule.failed(begun);
  else schedule.passed(begun, expiredShares(swept));
  const record: PassRecord = {
    ...{ at, reasons, status: failure ? 'failed' : 'completed' },
    durationMs: (seconds() - begun) * 1000,
    intervalSeconds: schedule.interval,
    deleted: swept.passes.reduce((sum, { deleted, natDeleted }) => sum + deleted + natDeleted, 0),
    ...(failure && { error: `${failure.family}/${failure.table}: ${failure.message}` }),
  };
  notePass(records, record, swept.passes);
  options.onRecord(record);
  for (const family of FAMILIES) relief.ask(family);
  return swept;
}

function timing({ interval, next }: Schedule) {
  const nextRun = Math.round(Date.now() + (next - seconds()) * 1000);
  return { intervalSeconds: interval, nextRun };
}

function seconds(): number {
  return performance.now() / 1000;
}
