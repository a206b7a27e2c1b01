import type { PassReason, PassRecord } from '../engine/collector.ts';
import type { PassResult } from '../engine/pass.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { CONNECTION_TABLES, type ConnectionTable } from '../tables/names.ts';
import type { Maker } from './maker.ts';

const PROTOCOLS = { ct_tcp: 'tcp', ct_any: 'any', snat: 'nat' } as const;
const REASONS: Record<PassReason, true> = {
  start: true,
  interval: true,
  request: true,
  nat_pressure: true,
  table_fill: true,
};

export interface CollectorSources {
  /** Seconds between passes. */
  interval(): number;
  /** Ports in the NAT range. */
  ports(): number;
  /** Entries a connection table can hold. */
  capacity(family: Family, table: ConnectionTable): number;
}

/** A table that live entries were taken from to make room: how many, by class. */
export interface Relieved {
  family: Family;
  table: ConnectionTable;
  classes: Readonly<Record<string, number>>;
}

/** What the collector tells. */
export interface CollectorMetrics {
  /** After every table. */
  onPass(result: PassResult): void;
  /** After a table whose pass failed. */
  onFailure(table: { family: Family; table: ConnectionTable }): void;
  /** After a pass over all tables. */
  onRecord(record: PassRecord): void;
  onRelief(relieved: Relieved): void;
}

/** What passes tell is as old as the last one: nothing is counted for a scrape. */
export function collectorMetrics(make: Maker, sources: CollectorSources): CollectorMetrics {
  const onTable = tableMetrics(make, sources);
  const connections = connectionMetrics(make);
  const onNat = natMetrics(make, sources);
  const onRecord = passMetrics(make, sources);
  const relieved = make.counter(
    'conntrack_gc_relieved_total',
    'Live entries taken to make room before LRU does.',
    ['map', 'class'],
  );
  return {
    onPass(result) {
      onTable(result);
      connections.onPass(result);
      onNat(result);
    },
    onFailure: connections.onFailure,
    onRecord,
    onRelief({ family, table, classes }) {
      for (const [name, count] of Object.entries(classes)) {
        relieved.inc({ map: `${family}/${table}`, class: name }, count);
      }
    },
  };
}

/** The schedule, and passes as a whole. */
function passMetrics(make: Maker, { interval }: CollectorSources) {
  make.reading('conntrack_gc_interval_seconds', 'Seconds between collection passes.', [], (set) =>
    set({}, interval()),
  );
  const passes = make.counter(
    'conntrack_gc_passes_total',
    'Passes over all tables, under each of their reasons.',
    ['reason', 'status'],
  );
  for (const reason of Object.keys(REASONS)) {
    for (const status of ['completed', 'failed']) passes.inc({ reason, status }, 0);
  }
  const lastSuccess = make.gauge(
    'conntrack_gc_last_success_timestamp_seconds',
    'When the last pass that went through every table ended, seconds since the epoch.',
  );
  return ({ at, durationMs, reasons, status }: PassRecord) => {
    for (const reason of reasons) passes.inc({ reason, status });
    if (status === 'completed') lastSuccess.set((at + durationMs) / 1000);
  };
}

function tableMetrics(make: Maker, { capacity }: CollectorSources) {
  const entries = make.gauge('map_entries', 'Entries, as the last pass counted.', ['map']);
  const pressure = make.gauge('map_pressure', 'Entries by capacity, 0 to 1.', ['map']);
  const evictions = make.counter('map_evictions_total', 'Entries that LRU took.', ['map']);
  const evictedBefore = new Map<string, number>();
  make.reading('map_capacity', 'Entries a map can hold.', ['map'], (set) =>
    eachTable((family, table, map) => set({ map }, capacity(family, table))),
  );
  return ({ family, table, alive, capacity: size, evicted }: PassResult) => {
    const map = `${family}/${table}`;
    entries.set({ map }, alive);
    pressure.set({ map }, alive / size);
    const before = evictedBefore.get(map) ?? 0;
    evictions.inc({ map }, Math.max(0, evicted - before));
    evictedBefore.set(map, Math.max(evicted, before));
  };
}

function connectionMetrics(make: Maker) {
  const labels = ['family', 'protocol'];
  const runs = make.counter('conntrack_gc_runs_total', 'Passes over a table.', [
    ...labels,
    'status',
  ]);
  const duration = make.gauge(
    'conntrack_gc_duration_seconds',
    'Duration of the last pass.',
    labels,
  );
  const met = make.gauge('conntrack_gc_entries', 'Entries that the last pass met.', [
    ...labels,
    'status',
  ]);
  const alive = make.gauge(
    'conntrack_entries',
    'Connections by what they are worth when there is no room for all, as the last pass saw them.',
    [...labels, 'class'],
  );
  for (const family of FAMILIES) {
    for (const protocol of Object.values(PROTOCOLS)) {
      for (const status of ['completed', 'failed']) runs.inc({ family, protocol, status }, 0);
    }
  }
  return {
    onPass(result: PassResult) {
      const { family, table } = result;
      const of = { family, protocol: PROTOCOLS[table] };
      runs.inc({ ...of, status: 'completed' });
      duration.set(of, result.durationMs / 1000);
      for (const status of ['alive', 'deleted', 'skipped'] as const) {
        met.set({ ...of, status }, result[status]);
      }
      if (table === 'snat') return;
      for (const [name, count] of Object.entries(result.classes)) {
        alive.set({ ...of, class: name }, count);
      }
    },
    onFailure({ family, table }: { family: Family; table: ConnectionTable }) {
      runs.inc({ family, protocol: PROTOCOLS[table], status: 'failed' });
    },
  };
}

function natMetrics(make: Maker, { ports }: CollectorSources) {
  const deleted = make.counter('nat_gc_entries_total', 'NAT entries that passes deleted.', [
    ...['family', 'direction', 'status'],
  ]);
  const completed = make.counter(
    'nat_gc_completed_total',
    'NAT entries without their other half, which a pass brought back.',
    ['family'],
  );
  const portsUsed = make.gauge(
    'nat_ports_used_ratio_max',
    'Share of the NAT range in use towards the destination that uses most of it.',
    ['family'],
  );
  for (const family of FAMILIES) {
    completed.inc({ family }, 0);
    for (const direction of ['egress', 'ingress', 'pair']) {
      deleted.inc({ family, direction, status: 'deleted' }, 0);
    }
  }
  return ({ family, natDeleted, nat, completed: halves }: PassResult) => {
    const status = 'deleted';
    deleted.inc({ family, direction: 'pair', status }, natDeleted);
    completed.inc({ family }, halves);
    if (!nat) return;
    for (const direction of ['egress', 'ingress'] as const) {
      deleted.inc({ family, direction, status }, nat.deleted[direction]);
    }
    portsUsed.set({ family }, nat.portsUsedMax / ports());
  };
}

/** Visits every connection table with the path of its pin. */
export function eachTable(
  visit: (family: Family, table: ConnectionTable, map: string) => void,
): void {
  for (const family of FAMILIES) {
    for (const table of CONNECTION_TABLES) visit(family, table, `${family}/${table}`);
  }
}
