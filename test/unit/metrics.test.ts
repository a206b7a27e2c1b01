import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { counter } from '../../agent/abi/generated.ts';
import type { PassResult } from '../../agent/engine/pass.ts';
import type { PassRecord } from '../../agent/engine/records.ts';
import { noStates } from '../../agent/tables/backend-states.ts';
import { nameCounters } from '../../agent/tables/counters.ts';
import { reconcileTimer, registerMetrics } from '../../agent/telemetry/metrics.ts';
import type { ServiceSample } from '../../agent/telemetry/service-metrics.ts';
import { metricCatalog } from '../lib/metric-catalog.ts';

/** What dashboards and alerts rely on: type and labels. */
const PUBLISHED: Record<string, string> = {
  conntrack_gc_runs_total: 'counter family protocol status',
  conntrack_gc_duration_seconds: 'gauge family protocol',
  conntrack_gc_entries: 'gauge family protocol status',
  conntrack_gc_interval_seconds: 'gauge',
  nat_gc_entries_total: 'counter direction family status',
  map_entries: 'gauge map',
  map_capacity: 'gauge map',
  map_pressure: 'gauge map',
  map_evictions_total: 'counter map',
  map_update_errors_total: 'counter errno map',
  nat_restored_total: 'counter family half',
  nat_port_allocation_attempts: 'histogram',
  nat_port_allocation_failures_total: 'counter family',
  nat_ports_used_ratio_max: 'gauge family',
  datapath_packets_total: 'counter family hook verdict',
  drop_total: 'counter family hook reason',
  service_backends: 'gauge service state',
  reconcile_duration_seconds: 'histogram',
  agent_info: 'gauge node version',
};

const PASS: PassResult = {
  ...{ family: 'ipv4', table: 'ct_tcp', alive: 250, deleted: 5, skipped: 1, failed: 0 },
  ...{ natDeleted: 8, evicted: 0, durationMs: 1500, capacity: 1000, classes: {}, completed: 0 },
};

const SERVICES: ServiceSample[] = [
  {
    ...{ name: 'web', backends: { ...noStates(), active: 2, terminating: 1 }, connections: 7 },
    ...{ drops: { service_no_backend: 3 }, perBackend: new Map([['10.0.1.10:8000', 4]]) },
  },
];

/** Of one run of the daemon; `record` is what it leaves to the next one. */
function openMetrics(record = new Map<string, number>()) {
  const registry = new Registry();
  const reconciled = reconcileTimer(registry);
  const reads: string[] = [];
  const counted: number[] = [];
  const table = { resizing: false };
  const hook = { attached: 3, expected: 4 };
  const metrics = registerMetrics(registry, {
    version: '1.2.3',
    settings: () => ({ node: 'node-a', ports: 1000 }),
    interval: () => 30,
    hooks: () => ({ from_endpoint: hook, to_endpoint: hook, from_netdev: hook, to_netdev: hook }),
    services: async () => SERVICES,
    reattached: () => ({ from_endpoint: 0, to_endpoint: 0, from_netdev: 0, to_netdev: 0 }),
    counters(family) {
      reads.push(family);
      return nameCounters(counted);
    },
    capacity: () => 1000,
    isSettled: () => !table.resizing,
    evictions: {
      read: (...table) => record.get(table.join('/')) ?? 0,
      write: (family, table, count) => void record.set(`${family}/${table}`, count),
    },
  });
  const sample = async (name: string) => {
    const line = (await registry.metrics()).split('\n').find((text) => text.startsWith(`${name} `));
    return line === undefined ? undefined : Number(line.slice(name.length));
  };
  return { registry, reconciled, metrics, sample, reads, counted, table };
}

test('every published metric is served, with its type and its labels', () => {
  const served = [...metricCatalog()].map(([name, { type, labels }]) => [
    name.replace(/^sekisho_/, ''),
    [type, ...labels].join(' '),
  ]);
  const published = served.filter(([name = '']) => name in PUBLISHED);
  assert.deepEqual(Object.fromEntries(published), PUBLISHED);
});

test('every metric has a help text, and counters end in _total', async () => {
  const { registry } = openMetrics();
  for (const { name, help, type } of await registry.getMetricsAsJSON()) {
    if (!name.startsWith('sekisho_')) continue;
    assert.ok(help.endsWith('.'), name);
    assert.equal(name.endsWith('_total'), String(type) === 'counter', name);
  }
});

test('a pass tells the fill of its table and what it collected', async () => {
  const { metrics, sample, counted } = openMetrics();
  counted[counter.COUNTER_CREATED] = 250;
  metrics.onPass(PASS);
  assert.equal(await sample('sekisho_map_pressure{map="ipv4/ct_tcp"}'), 0.25);
  const labels = 'family="ipv4",protocol="tcp"';
  assert.equal(await sample(`sekisho_conntrack_gc_duration_seconds{${labels}}`), 1.5);
  assert.equal(await sample(`sekisho_conntrack_gc_runs_total{${labels},status="completed"}`), 1);
  assert.equal(await sample(`sekisho_conntrack_gc_runs_total{${labels},status="failed"}`), 0);
});

test('drops are told by reason, and no reason is none', async () => {
  const { sample } = openMetrics();
  const at = 'family="ipv4",hook="to_netdev"';
  assert.equal(await sample(`sekisho_drop_total{${at},reason="nat_full"}`), 0);
  assert.equal(await sample(`sekisho_drop_total{${at},reason="none"}`), undefined);
});

test('services are told with their backends, connections and drops', async () => {
  const { sample } = openMetrics();
  const service = 'service="web"';
  assert.equal(await sample(`sekisho_service_backends{${service},state="active"}`), 2);
  assert.equal(await sample(`sekisho_service_connections_total{${service}}`), 7);
  const backend = 'backend="10.0.1.10:8000"';
  assert.equal(await sample(`sekisho_service_backend_connections_total{${service},${backend}}`), 4);
  const reason = 'reason="service_no_backend"';
  assert.equal(await sample(`sekisho_service_drops_total{${service},${reason}}`), 3);
});

test('ports in use are told as a share of the NAT range', async () => {
  const { metrics, sample } = openMetrics();
  const halves = { egress: 0, ingress: 0 };
  const nat = { alive: halves, deleted: halves, portsUsedMax: 905 };
  metrics.onPass({ ...PASS, table: 'snat', nat });
  assert.equal(await sample('sekisho_nat_ports_used_ratio_max{family="ipv4"}'), 0.905);
});

test('evictions never fall, whatever a pass could not see', async () => {
  const { metrics, sample } = openMetrics();
  const seen: (number | undefined)[] = [];
  for (const evicted of [7, 4, 9]) {
    metrics.onPass({ ...PASS, evicted });
    seen.push(await sample('sekisho_map_evictions_total{map="ipv4/ct_tcp"}'));
  }
  assert.deepEqual(seen, [7, 7, 9]);
});

test('how full a table is follows what was created and deleted since it was counted', async () => {
  const { metrics, sample, counted } = openMetrics();
  const read = (name: string) => sample(`sekisho_map_${name}{map="ipv4/ct_tcp"}`);
  assert.equal(await read('entries'), undefined);
  counted[counter.COUNTER_CREATED] = 5000;
  counted[counter.COUNTER_DELETED] = 4000;
  metrics.onPass({ ...PASS, evicted: 750 });
  assert.deepEqual([await read('entries'), await read('evictions_total')], [250, 750]);

  counted[counter.COUNTER_CREATED] = 5600;
  assert.deepEqual([await read('entries'), await read('pressure')], [850, 0.85]);
  const classes = { closing: 100, half_open: 150 };
  counted[counter.COUNTER_DELETED] = 4250;
  metrics.onRelief({ family: 'ipv4', table: 'ct_tcp', classes, evicted: 700 });
  assert.equal(await read('entries'), 600);
  counted[counter.COUNTER_DELETED] = 4350;
  assert.equal(await read('entries'), 500);
});

test('what was created beyond the capacity of a table is an eviction at once', async () => {
  const { metrics, sample, counted } = openMetrics();
  const read = (name: string) => sample(`sekisho_map_${name}{map="ipv4/ct_tcp"}`);
  counted[counter.COUNTER_CREATED] = 250;
  metrics.onPass(PASS);
  counted[counter.COUNTER_CREATED] = 1250;
  assert.deepEqual([await read('pressure'), await read('evictions_total')], [1, 250]);
  metrics.onPass({ ...PASS, alive: 990, evicted: 260 });
  assert.deepEqual([await read('entries'), await read('evictions_total')], [990, 260]);
});

const EVICTIONS = 'sekisho_map_evictions_total{map="ipv4/ct_tcp"}';

test('evictions go on where they were when the daemon starts under traffic', async () => {
  const record = new Map<string, number>();
  const before = openMetrics(record);
  before.counted[counter.COUNTER_CREATED] = 1300;
  before.metrics.onPass({ ...PASS, alive: 800, evicted: 500 });
  assert.equal(await before.sample(EVICTIONS), 500);

  const after = openMetrics(record);
  after.counted[counter.COUNTER_CREATED] = 1600;
  after.metrics.onPass({ ...PASS, alive: 1000, evicted: 200 });
  assert.equal(await after.sample(EVICTIONS), 600, 'what is beyond the capacity is sure');
  after.metrics.onPass({ ...PASS, alive: 950, evicted: 650 });
  assert.equal(await after.sample(EVICTIONS), 650);
  assert.equal(await openMetrics(record).sample(EVICTIONS), undefined, 'not counted yet');
});

test('what a scrape told is known to the next run, too', async () => {
  const record = new Map<string, number>();
  const before = openMetrics(record);
  before.metrics.onPass(PASS);
  before.counted[counter.COUNTER_CREATED] = 1300;
  assert.equal(await before.sample(EVICTIONS), 300);
  const after = openMetrics(record);
  after.counted[counter.COUNTER_CREATED] = 1300;
  after.metrics.onPass(PASS);
  assert.equal(await after.sample(EVICTIONS), 300);
});

test('evictions begin at zero when the counters do', async () => {
  const { metrics, sample, counted } = openMetrics(new Map([['ipv4/ct_tcp', 500]]));
  counted[counter.COUNTER_CREATED] = 400;
  metrics.onPass({ ...PASS, evicted: 3 });
  assert.equal(await sample(EVICTIONS), 3);
});

test('what relief deletes during a pass is no eviction', async () => {
  const { metrics, sample, counted } = openMetrics();
  counted[counter.COUNTER_CREATED] = 950;
  counted[counter.COUNTER_DELETED] = 200;
  metrics.onRelief({ family: 'ipv4', table: 'ct_tcp', classes: { closing: 200 }, evicted: 0 });
  metrics.onPass({ ...PASS, alive: 950, evicted: 0 });
  assert.equal(await sample('sekisho_map_entries{map="ipv4/ct_tcp"}'), 750);
  counted[counter.COUNTER_CREATED] = 1190;
  assert.equal(await sample(EVICTIONS), 0);
});

test('what comes while other tables are relieved counts as an entry', async () => {
  const { metrics, sample, counted } = openMetrics();
  counted[counter.COUNTER_CREATED] = 900 + 50;
  counted[counter.COUNTER_DELETED] = 200;
  metrics.onRelief({ family: 'ipv4', table: 'ct_tcp', classes: { closing: 200 }, evicted: 0 });
  assert.equal(await sample('sekisho_map_entries{map="ipv4/ct_tcp"}'), 750);
});

test('a table that is being resized may hold more than its map, and evicts nothing by that', async () => {
  const { metrics, sample, counted, table } = openMetrics();
  metrics.onPass(PASS);
  table.resizing = true;
  counted[counter.COUNTER_CREATED] = 1200;
  assert.equal(await sample(EVICTIONS), 0);
  assert.equal(await sample('sekisho_map_pressure{map="ipv4/ct_tcp"}'), 1);
  table.resizing = false;
  counted[counter.COUNTER_DELETED] = 300;
  assert.equal(await sample(EVICTIONS), 0);
});

test('entries that no counter knows of are there all the same', async () => {
  const { metrics, sample, counted } = openMetrics();
  const read = (name: string) => sample(`sekisho_map_${name}{map="ipv4/ct_tcp"}`);
  counted[counter.COUNTER_CREATED] = 10;
  metrics.onPass({ ...PASS, alive: 250 });
  assert.deepEqual([await read('entries'), await read('evictions_total')], [250, 0]);
  counted[counter.COUNTER_DELETED] = 100;
  metrics.onPass({ ...PASS, alive: 150 });
  counted[counter.COUNTER_CREATED] = 30;
  assert.deepEqual([await read('entries'), await read('evictions_total')], [170, 0]);
});

test('reconciling is timed in seconds', async () => {
  const { reconciled, sample } = openMetrics();
  reconciled(0.03);
  reconciled(3);
  assert.equal(await sample('sekisho_reconcile_duration_seconds_bucket{le="0.025"}'), 0);
  assert.equal(await sample('sekisho_reconcile_duration_seconds_bucket{le="0.05"}'), 1);
  assert.equal(await sample('sekisho_reconcile_duration_seconds_count'), 2);
});

test('a scrape reads the counters of each family once', async () => {
  const { registry, reads } = openMetrics();
  await registry.metrics();
  assert.deepEqual(reads, ['ipv4', 'ipv6']);
  await registry.metrics();
  assert.equal(reads.length, 4);
});

test('a pass counts under each of its reasons, and one that failed is no success', async () => {
  const { metrics, sample } = openMetrics();
  const record: PassRecord = {
    ...{ at: 1_700_000_000_000, reasons: ['interval', 'nat_pressure'], status: 'completed' },
    ...{ durationMs: 500, intervalSeconds: 30, deleted: 0 },
  };
  metrics.onRecord(record);
  metrics.onRecord({ ...record, at: 1_800_000_000_000, reasons: ['interval'], status: 'failed' });
  const passes = (reason: string, status: string) =>
    sample(`sekisho_conntrack_gc_passes_total{reason="${reason}",status="${status}"}`);
  assert.equal(await passes('interval', 'completed'), 1);
  assert.equal(await passes('nat_pressure', 'completed'), 1);
  assert.equal(await passes('interval', 'failed'), 1);
  assert.equal(await passes('start', 'failed'), 0);
  const success = 'sekisho_conntrack_gc_last_success_timestamp_seconds';
  assert.equal(await sample(success), 1_700_000_000.5);
});

test('connections are told by class, and those that relief took', async () => {
  const { metrics, sample } = openMetrics();
  metrics.onPass({ ...PASS, classes: { closing: 3, established: 7 } });
  const nat = { family: 'ipv6', table: 'snat', evicted: 0 } as const;
  metrics.onRelief({ ...nat, classes: { half_open: 4 } });
  const labels = 'family="ipv4",protocol="tcp",class="established"';
  assert.equal(await sample(`sekisho_conntrack_entries{${labels}}`), 7);
  const taken = 'sekisho_conntrack_gc_relieved_total{map="ipv6/snat",class="half_open"}';
  assert.equal(await sample(taken), 4);
});

test('signals, resizes and halves brought back begin at zero and are counted', async () => {
  const { metrics, sample } = openMetrics();
  const heard = 'sekisho_datapath_events_total{family="ipv4",type="table_fill"}';
  const resized = 'sekisho_map_resizes_total{map="ipv4/snat",reason="growth",status="completed"}';
  const completed = 'sekisho_nat_gc_completed_total{family="ipv4"}';
  const all = async () => [await sample(heard), await sample(resized), await sample(completed)];
  assert.deepEqual(await all(), [0, 0, 0]);
  metrics.onSignal({ family: 'ipv4', type: 'table_fill', count: 5 });
  metrics.onResize({ family: 'ipv4', table: 'snat', reason: 'growth', status: 'completed' });
  metrics.onPass({ ...PASS, table: 'snat', completed: 2 });
  assert.deepEqual(await all(), [5, 1, 2]);
});

test('hooks that are there stand beside those that should be', async () => {
  const { sample } = openMetrics();
  assert.equal(await sample('sekisho_hooks_attached{hook="to_netdev"}'), 3);
  assert.equal(await sample('sekisho_hooks_expected{hook="to_netdev"}'), 4);
});
