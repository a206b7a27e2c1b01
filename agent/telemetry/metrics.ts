import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from 'prom-client';
import type { PassResult } from '../engine/pass.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Counters } from '../tables/counters.ts';
import type { Hook } from '../tables/names.ts';
import { attemptsHistogram } from './attempts.ts';

const PREFIX = 'sekisho_';
/** Seconds: an unchanged network, some hooks, a scrub of large tables. */
const RECONCILE_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const PROTOCOLS = { ct_tcp: 'tcp', ct_any: 'any' } as const;

type TableName = PassResult['table'];

/** What a reload may change; read at every scrape. */
export interface MetricsSettings {
  /** Name of the node. */
  node: string;
  /** Ports in the NAT range. */
  ports: number;
  /** Seconds between passes. */
  interval: number;
}

export interface MetricsSources {
  version: string;
  settings(): MetricsSettings;
  /** How often each hook had to be attached again. */
  reattached(): Readonly<Record<Hook, number>>;
  /** Counters of a family's datapath, read at every scrape. */
  counters(family: Family): Counters;
  /** Entries a connection table can hold. */
  capacity(family: Family, table: TableName): number;
}

/** What the collector and the reloader tell the metrics. */
export interface Metrics {
  onReload(status: 'applied' | 'refused'): void;
  onPass(result: PassResult): void;
  onFailure(table: { family: Family; table: TableName }): void;
}

/** Fills a registry: datapath counters are read when it is scraped, the rest is told. */
export function registerMetrics(registry: Registry, sources: MetricsSources): Metrics {
  collectDefaultMetrics({ register: registry });
  const make = metricMaker(registry);
  addAgentMetrics(make, sources);
  addDatapathMetrics(make, sources);
  registry.registerMetric(attemptsHistogram(`${PREFIX}nat_port_allocation_attempts`, sources));
  const reloads = make.counter('config_reloads_total', 'Configurations that were read again.', [
    'status',
  ]);
  for (const status of ['applied', 'refused']) reloads.inc({ status }, 0);
  return {
    ...collectorMetrics(make, sources),
    onReload: (status: 'applied' | 'refused') => reloads.inc({ status }),
  };
}

/** Tells how long it took to make maps and hooks what the network and the configuration ask for. */
export function reconcileTimer(registry: Registry): (seconds: number) => void {
  const histogram = new Histogram({
    name: `${PREFIX}reconcile_duration_seconds`,
    help: 'Time to make maps and hooks what network and configuration ask for.',
    buckets: RECONCILE_BOUNDS,
    registers: [registry],
  });
  return (seconds) => histogram.observe(seconds);
}

type Maker = ReturnType<typeof metricMaker>;

function metricMaker(registry: Registry) {
  const registers = [registry];
  return {
    counter: (name: string, help: string, labelNames: string[] = []) =>
      new Counter({ name: PREFIX + name, help, labelNames, registers }),
    gauge: (name: string, help: string, labelNames: string[] = []) =>
      new Gauge({ name: PREFIX + name, help, labelNames, registers }),
    /** A gauge whose value stands elsewhere. */
    reading(
      name: string,
      help: string,
      labelNames: string[],
      read: (gauge: Gauge<string>) => void,
    ) {
      new Gauge({
        name: PREFIX + name,
        help,
        labelNames,
        registers,
        collect() {
          this.reset();
          read(this);
        },
      });
    },
    /** A counter whose value stands elsewhere: `read` tells all of it at every scrape. */
    mirror(
      name: string,
      help: string,
      labelNames: string[],
      read: (set: (labels: Record<string, string>, value: number | bigint) => void) => void,
    ) {
      new Counter({
        name: PREFIX + name,
        help,
        labelNames,
        registers,
        collect() {
          this.reset();
          read((labels, value) => this.inc(labels, Number(value)));
        },
      });
    },
  };
}

function addAgentMetrics(make: Maker, { version, settings, reattached }: MetricsSources): void {
  make.reading(
    'agent_info',
    'Always 1; what runs here is in the labels.',
    ['version', 'node'],
    (gauge) => gauge.set({ version, node: settings().node }, 1),
  );
  make.reading('conntrack_gc_interval_seconds', 'Seconds between collection passes.', [], (gauge) =>
    gauge.set(settings().interval),
  );
  make.mirror(
    'hook_reattached_total',
    'Hooks that someone detached and that were attached again.',
    ['hook'],
    (set) => {
      for (const [hook, count] of Object.entries(reattached())) set({ hook }, count);
    },
  );
}

function addDatapathMetrics(make: Maker, { counters }: MetricsSources): void {
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
        eachPair(drops, (hook, reason, count) => set({ family, hook, reason }, count)),
      ),
  );
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
  make.mirror(
    'nat_port_allocation_failures_total',
    'New flows for which no port was free.',
    ['family'],
    (set) =>
      eachFamily(counters, (family, { natAttempts }) => set({ family }, natAttempts.at(-1) ?? 0)),
  );
}

function collectorMetrics(make: Maker, { capacity, settings }: MetricsSources) {
  const runs = make.counter('conntrack_gc_runs_total', 'Passes over connection tables.', [
    'family',
    'protocol',
    'status',
  ]);
  const duration = make.gauge('conntrack_gc_duration_seconds', 'Duration of the last pass.', [
    'family',
    'protocol',
  ]);
  const entries = make.gauge('conntrack_gc_entries', 'Entries that the last pass met.', [
    'family',
    'protocol',
    'status',
  ]);
  const natEntries = make.counter('nat_gc_entries_total', 'NAT entries that passes deleted.', [
    'family',
    'direction',
    'status',
  ]);
  const portsUsed = make.gauge(
    'nat_ports_used_ratio_max',
    'Share of the NAT range in use towards the destination that uses most of it.',
    ['family'],
  );
  const mapEntries = make.gauge('map_entries', 'Entries, as the last pass counted.', ['map']);
  const mapCapacity = make.gauge('map_capacity', 'Entries a map can hold.', ['map']);
  const mapPressure = make.gauge('map_pressure', 'Entries by capacity, 0 to 1.', ['map']);
  const evictions = make.counter('map_evictions_total', 'Entries that LRU took.', ['map']);
  const evictedBefore = new Map<string, number>();
  for (const family of FAMILIES) {
    for (const protocol of Object.values(PROTOCOLS)) {
      for (const status of ['completed', 'failed']) runs.inc({ family, protocol, status }, 0);
    }
  }

  return {
    onPass(result: PassResult) {
      const { family, table, alive, deleted, skipped, natDeleted, evicted, nat } = result;
      const map = `${family}/${table}`;
      const size = capacity(family, table);
      mapEntries.set({ map }, alive);
      mapCapacity.set({ map }, size);
      mapPressure.set({ map }, alive / size);
      const before = evictedBefore.get(map) ?? 0;
      evictions.inc({ map }, Math.max(0, evicted - before));
      evictedBefore.set(map, Math.max(evicted, before));
      if (table === 'snat') {
        for (const direction of ['egress', 'ingress'] as const) {
          natEntries.inc({ family, direction, status: 'deleted' }, nat?.deleted[direction] ?? 0);
        }
        portsUsed.set({ family }, (nat?.portsUsedMax ?? 0) / settings().ports);
        return;
      }
      const protocol = PROTOCOLS[table];
      runs.inc({ family, protocol, status: 'completed' });
      duration.set({ family, protocol }, result.durationMs / 1000);
      entries.set({ family, protocol, status: 'alive' }, alive);
      entries.set({ family, protocol, status: 'deleted' }, deleted);
      entries.set({ family, protocol, status: 'skipped' }, skipped);
      natEntries.inc({ family, direction: 'pair', status: 'deleted' }, natDeleted);
    },
    onFailure({ family, table }: { family: Family; table: TableName }) {
      if (table !== 'snat') runs.inc({ family, protocol: PROTOCOLS[table], status: 'failed' });
    },
  };
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
