import type { PassResult } from '../engine/pass.ts';
import type { PassReason, PassRecord } from '../engine/records.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import type { Maker } from './maker.ts';
import { type TableSources, tableMetrics } from './table-metrics.ts';

const PROTOCOLS = { ct_tcp: 'tcp', ct_any: 'any', snat: 'nat' } as const;
const REASONS: Record<PassReason, true> = {
  start: true,
  interval: true,
  request: true,
  nat_pressure: true,
  table_fill: true,
  half_lost: true,
};

export interface CollectorSources extends TableSources {
  /** Seconds between passes. */
  interval(): number;
  /** Ports in the NAT range. */
  ports(): number;
}

/** A table that was found too full. */
export interface Relieved {
  family: Family;
  table: ConnectionTable;
  /** Live entries that were taken to make room, by class. */
  classes: Readonly<Record<string, number>>;
  /** Entries that LRU took since the table was made. */
  evicted: number;
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

/** What passes and reliefs tell: nothing is counted for a scrape. */
export function collectorMetrics(make: Maker, sources: CollectorSources): CollectorMetrics {
  const onCounted = tableMetrics(make, sources);
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
      onCounted(result);
      connections.onPass(result);
      onNat(result);
    },
    onFailure: connections.onFailure,
    onRecord,
    onRelief({ family, table, classes, evicted }) {
      for (const [name, count] of Object.entries(classes)) {
        relieved.inc({ map: `${family}/${table}`, class: name }, count);
      }
      onCounted({ family, table, evicted });
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
    'NAT entries without their other half, and connections without both, for which a pass brought them back.',
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
