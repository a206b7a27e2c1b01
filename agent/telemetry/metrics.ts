import { collectDefaultMetrics, Histogram, type Registry } from 'prom-client';
import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Counters } from '../tables/counters.ts';
import {
  type ConnectionTable,
  EVENT_TYPES,
  type EventType,
  HOOKS,
  type Hook,
} from '../tables/names.ts';
import { attemptsHistogram } from './attempts.ts';
import { type CollectorMetrics, collectorMetrics } from './collector-metrics.ts';
import { addDatapathMetrics } from './datapath-metrics.ts';
import { type Maker, metricMaker, PREFIX } from './maker.ts';
import { oncePerScrape } from './once.ts';
import { addServiceMetrics, type ServiceSample } from './service-metrics.ts';
import { eachTable, type TableSources } from './table-metrics.ts';

/** Seconds: an unchanged network, some hooks, a scrub of large tables. */
const RECONCILE_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Gauges with the name of a counter, which Prometheus takes for a mistake. */
const MISNAMED = ['handles', 'requests', 'resources'].map((what) => `nodejs_active_${what}_total`);

/** What a reload may change; read at every scrape. */
export interface MetricsSettings {
  /** Name of the node. */
  node: string;
  /** Ports in the NAT range. */
  ports: number;
}

/** Of all interfaces and both families. */
export interface HookCount {
  attached: number;
  /** How many there should be. */
  expected: number;
}

export interface MetricsSources extends Pick<TableSources, 'capacity' | 'isSettled' | 'evictions'> {
  version: string;
  settings(): MetricsSettings;
  /** Seconds between passes. */
  interval(): number;
  hooks(): Readonly<Record<Hook, HookCount>>;
  /** How often each hook had to be attached again. */
  reattached(): Readonly<Record<Hook, number>>;
  /** The services, read at every scrape. */
  services(): Promise<ServiceSample[]>;
  /** Counters of a family's datapath, read at every scrape. */
  counters(family: Family): Counters;
}

/** What the parts of the daemon tell the metrics. */
export interface Metrics extends CollectorMetrics {
  onReload(status: 'applied' | 'refused'): void;
  onSignal(signal: { family: Family; type: EventType; count: number }): void;
  onResize(resize: {
    family: Family;
    table: ConnectionTable;
    reason: 'request' | 'growth';
    status: 'completed' | 'failed';
  }): void;
}

/** Fills a registry: datapath counters are read when it is scraped, the rest is told. */
export function registerMetrics(registry: Registry, sources: MetricsSources): Metrics {
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
  const make = metricMaker(registry);
  const counters = oncePerScrape(sources.counters);
  addAgentMetrics(make, sources);
  addDatapathMetrics(make, counters);
  addServiceMetrics(make, sources.services);
  registry.registerMetric(attemptsHistogram(`${PREFIX}nat_port_allocation_attempts`, { counters }));
  const { interval, capacity, isSettled, evictions, settings } = sources;
  return {
    ...collectorMetrics(make, {
      ...{ interval, capacity, isSettled, evictions, counters, countersNow: sources.counters },
      ports: () => settings().ports,
    }),
    onReload: reloadCounter(make),
    onSignal: signalCounter(make),
    onResize: resizeCounter(make),
  };
}

/** Tells how long it took to make maps and hooks what the network and the configuration ask for. */
export function reconcileTimer(registry: Registry): (seconds: number) => void {
  const histogram = new Histogram({
    name: `${PREFIX}reconcile_duration_seconds`,
    help: 'Time to make maps and hooks what network, configuration and services ask for.',
    buckets: RECONCILE_BOUNDS,
    registers: [registry],
  });
  return (seconds) => histogram.observe(seconds);
}

function addAgentMetrics(make: Maker, sources: MetricsSources): void {
  const { version, settings, reattached } = sources;
  const hooks = oncePerScrape((_: 'all') => sources.hooks());
  make.reading(
    'agent_info',
    'Always 1; what runs here is in the labels.',
    ['version', 'node'],
    (set) => set({ version, node: settings().node }, 1),
  );
  for (const [what, help] of [
    ['attached', 'Programs that are on their hooks, of all interfaces and both families.'],
    ['expected', 'Programs that should be on their hooks.'],
  ] as const) {
    make.reading(`hooks_${what}`, help, ['hook'], (set) => {
      const counts = hooks('all');
      for (const hook of HOOKS) set({ hook }, counts[hook][what]);
    });
  }
  make.mirror(
    'hook_reattached_total',
    'Hooks that someone detached and that were attached again.',
    ['hook'],
    (set) => {
      for (const [hook, count] of Object.entries(reattached())) set({ hook }, count);
    },
  );
}

function reloadCounter(make: Maker): Metrics['onReload'] {
  const help = 'Configurations that were read again.';
  const reloads = make.counter('config_reloads_total', help, ['status']);
  for (const status of ['applied', 'refused']) reloads.inc({ status }, 0);
  return (status) => reloads.inc({ status });
}

function signalCounter(make: Maker): Metrics['onSignal'] {
  const help = 'Signals from the datapath that the agent heard.';
  const signals = make.counter('datapath_events_total', help, ['family', 'type']);
  for (const family of FAMILIES) {
    for (const type of EVENT_TYPES) signals.inc({ family, type }, 0);
  }
  return ({ family, type, count }) => signals.inc({ family, type }, count);
}

function resizeCounter(make: Maker): Metrics['onResize'] {
  const help = 'Connection tables that were given another capacity.';
  const resizes = make.counter('map_resizes_total', help, ['map', 'reason', 'status']);
  eachTable((_family, _table, map) => {
    for (const reason of ['request', 'growth']) {
      for (const status of ['completed', 'failed']) resizes.inc({ map, reason, status }, 0);
    }
  });
  return ({ family, table, reason, status }) =>
    resizes.inc({ map: `${family}/${table}`, reason, status });
}
