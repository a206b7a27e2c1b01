import type { PassResult } from './pass.ts';
import type { ReliefResult } from './relieve.ts';

/** Passes and reliefs that are remembered. */
const HISTORY = 10;

/** Why a pass was made. */
export type PassReason =
  | 'start'
  | 'interval'
  | 'request'
  | 'nat_pressure'
  | 'table_fill'
  | 'half_lost';

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

/** What the collector has done since it was started. */
export interface Records {
  runs: number;
  /** Milliseconds since the epoch. */
  lastRun?: number;
  /** Figures of the last pass. */
  passes: PassResult[];
  /** The last passes, the latest first. */
  history: PassRecord[];
  /** The last times that room was made, the latest first. */
  reliefs: ReliefRecord[];
}

export function newRecords(): Records {
  return { runs: 0, passes: [], history: [], reliefs: [] };
}

export function notePass(records: Records, record: PassRecord, passes: PassResult[]): void {
  records.runs++;
  records.passes = passes;
  records.history = [record, ...records.history].slice(0, HISTORY);
}

export function noteRelief(records: Records, result: ReliefResult): void {
  records.reliefs = [{ ...result, at: Date.now() }, ...records.reliefs].slice(0, HISTORY);
}
