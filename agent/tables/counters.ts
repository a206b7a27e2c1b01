import { counter, drop_reason, nat_probe, update_error, verdict } from '../abi/generated.ts';
import type { BpfMap } from '../kernel/map.ts';
import {
  CONNECTION_TABLES,
  type ConnectionTable,
  DROP_REASONS,
  type DropReason,
  HOOKS,
  type Hook,
  RESTORED_HALVES,
  type RestoredHalf,
  UPDATE_ERRORS,
  type UpdateError,
  VERDICTS,
  type Verdict,
} from './names.ts';

/** What the datapath of one family counted since its maps were made, summed over CPUs. */
export interface Counters {
  packets: Record<Hook, Record<Verdict, number>>;
  drops: Record<Hook, Record<DropReason, number>>;
  created: Record<ConnectionTable, number>;
  deleted: Record<ConnectionTable, number>;
  restored: Record<RestoredHalf, number>;
  updateErrors: Record<ConnectionTable, Record<UpdateError, number>>;
  /** By attempts that an allocation took; then those found by the scan; failures last. */
  natAttempts: number[];
  /** Signals that found the ring buffer full. */
  eventsLost: number;
}

/** Reads a `counters` map. */
export function readCounters(map: BpfMap): Counters {
  return nameCounters(readValues(map));
}

/** Entries ever created in a table, and ever deleted: two counters instead of all. */
export function readTurnover(
  map: BpfMap,
  table: ConnectionTable,
): { created: number; deleted: number } {
  const at = CONNECTION_TABLES.indexOf(table);
  return {
    created: readValue(map, counter.COUNTER_CREATED + at),
    deleted: readValue(map, counter.COUNTER_DELETED + at),
  };
}

/** Gives the counters of `enum counter`, in its order, their names. */
export function nameCounters(values: readonly number[]): Counters {
  const at = (index: number) => values[index] ?? 0;
  const row = <Name extends string>(names: readonly Name[], base: number) =>
    record(names, (i) => at(base + i));
  const {
    COUNTER_PACKETS: packets,
    COUNTER_DROPS: drops,
    COUNTER_UPDATE_ERRORS: errors,
    COUNTER_NAT_ATTEMPTS: attempts,
  } = counter;
  return {
    packets: record(HOOKS, (i) => row(VERDICTS, packets + i * verdict.VERDICT_COUNT)),
    drops: record(HOOKS, (i) => row(DROP_REASONS, drops + i * drop_reason.DROP_REASON_COUNT)),
    created: row(CONNECTION_TABLES, counter.COUNTER_CREATED),
    deleted: row(CONNECTION_TABLES, counter.COUNTER_DELETED),
    restored: row(RESTORED_HALVES, counter.COUNTER_RESTORED),
    updateErrors: record(CONNECTION_TABLES, (i) =>
      row(UPDATE_ERRORS, errors + i * update_error.UPDATE_ERROR_COUNT),
    ),
    natAttempts: Array.from({ length: nat_probe.NAT_ATTEMPT_SLOTS }, (_, i) => at(attempts + i)),
    eventsLost: at(counter.COUNTER_EVENTS_LOST),
  };
}

function readValues(map: BpfMap): number[] {
  const length = Math.min(map.maxEntries, counter.COUNTER_COUNT);
  return Array.from({ length }, (_, i) => readValue(map, i));
}

/** Summed over CPUs. */
function readValue(map: BpfMap, index: number): number {
  return Number(map.sumU64(new Uint8Array(Uint32Array.of(index).buffer)));
}

function record<Name extends string, Value>(
  names: readonly Name[],
  valueAt: (index: number) => Value,
): Record<Name, Value> {
  return Object.fromEntries(names.map((name, i) => [name, valueAt(i)])) as Record<Name, Value>;
}
