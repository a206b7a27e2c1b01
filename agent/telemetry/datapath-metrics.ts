import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Counters } from '../tables/counters.ts';
import type { DropReason } from '../tables/names.ts';
import type { Maker } from './maker.ts';

/** Stands for none: nothing is ever counted under it. */
const NO_REASON: DropReason = 'none';

/** Whatever the programs count themselves: read from their maps at every scrape. */
export function addDatapathMetrics(make: Maker, counters: (family: Family) => Counters): void {
  addPacketMetrics(make, counters);
  addTableCounters(make, counters);
  make.mirror(
    'nat_restored_total',
    'Connections saved: lost NAT records that a packet brought back.',
    ['family', 'half'],
    (set) =>
      eachFamily(counters, (family, { restored }) => {
        for (const [half, count] of Object.entries(restored)) set({ family, half }, count);
      }),
  );
  make.mirror(
    'nat_port_allocation_failures_total',
    'New flows for which no port was free.',
    ['family'],
    (set) =>
      eachFamily(counters, (family, { natAttempts }) => set({ family }, natAttempts.at(-1) ?? 0)),
  );
  make.mirror(
    'datapath_events_lost_total',
    'Signals to the agent that found the ring buffer full.',
    ['family'],
    (set) => eachFamily(counters, (family, { eventsLost }) => set({ family }, eventsLost)),
  );
}

function addPacketMetrics(make: Maker, counters: (family: Family) => Counters): void {
  make.mirror(
    'datapath_packets_total',
    'Packets by hook and how they left it.',
    ['family', 'hook', 'verdict'],
    (set) =>
      eachFamily(counters, (family, { packets }) =>
        eachPair(packets, (hook, verdict, count) => set({ family, hook, verdict }, count)),
      ),
  );
  make.mirror(
    'drop_total',
    'Dropped packets by hook and reason.',
    ['family', 'hook', 'reason'],
    (set) =>
      eachFamily(counters, (family, { drops }) =>
        eachPair(drops, (hook, reason, count) => {
          if (reason !== NO_REASON) set({ family, hook, reason }, count);
        }),
      ),
  );
}

function addTableCounters(make: Maker, counters: (family: Family) => Counters): void {
  for (const what of ['created', 'deleted'] as const) {
    make.mirror(`map_${what}_total`, `Entries that were ${what}.`, ['map'], (set) =>
      eachFamily(counters, (family, read) => {
        for (const [table, count] of Object.entries(read[what])) {
          set({ map: `${family}/${table}` }, count);
        }
      }),
    );
  }
  make.mirror(
    'map_update_errors_total',
    'Updates of connection tables that the kernel refused.',
    ['map', 'errno'],
    (set) =>
      eachFamily(counters, (family, { updateErrors }) =>
        eachPair(updateErrors, (table, errno, count) =>
          set({ map: `${family}/${table}`, errno: errno.toUpperCase() }, count),
        ),
      ),
  );
}

function eachFamily(
  counters: (family: Family) => Counters,
  visit: (family: Family, counters: Counters) => void,
): void {
  for (const family of FAMILIES) visit(family, counters(family));
}

function eachPair<Value>(
  table: Record<string, Record<string, Value>>,
  visit: (outer: string, inner: string, value: Value) => void,
): void {
  for (const [outer, row] of Object.entries(table)) {
    for (const [inner, value] of Object.entries(row)) visit(outer, inner, value);
  }
}
