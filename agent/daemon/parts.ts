import { totalmem } from 'node:os';
import type { Logger } from 'pino';
import type { Config } from '../config/schema.ts';
import {
  type AttachMode,
  type Attachment,
  ENDPOINT_HOOKS,
  listAttachments,
} from '../engine/attach.ts';
import { type Collector, startCollector } from '../engine/collector.ts';
import type { Datapath } from '../engine/datapath.ts';
import { createGrower, type Grower } from '../engine/grower.ts';
import { knownNames } from '../engine/known.ts';
import { loadReaper, type Reaper } from '../engine/reap.ts';
import { createResizer, type Resizer } from '../engine/resizer.ts';
import { type ForceReap, scrubAddresses } from '../engine/scrub.ts';
import { possibleCpus } from '../kernel/system.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { flushGone } from '../services/flush.ts';
import { openIdRecord } from '../services/id-record.ts';
import { kernelTables } from '../services/kernel-tables.ts';
import { createReconciler } from '../services/reconciler.ts';
import { buildTables } from '../services/table-builder.ts';
import { openTableRecord } from '../services/table-record.ts';
import { datapathNow, readNodeState } from '../tables/clock.ts';
import { readCounters, readTurnover } from '../tables/counters.ts';
import { readDevices } from '../tables/devices.ts';
import { HOOKS, type Hook } from '../tables/names.ts';
import { noServiceCounts, readServiceCounts } from '../tables/service-counts.ts';
import type { HookCount, Metrics, MetricsSources } from '../telemetry/metrics.ts';
import { openEndpointStore } from './endpoint-store.ts';
import { type Signal, watchEvents } from './events.ts';
import { createNode, type NodeKeeper, type NodeOptions } from './node.ts';
import type { Settings } from './reload.ts';
import { openServiceStore } from './service-store.ts';
import { createServices, type ServiceKeeper } from './services.ts';
import { connectionTables, openScrubbed, rowTables } from './tables.ts';
import { passWhenTold } from './told.ts';

/*
 * The parts of the daemon, each made from the configuration and from the parts below it.
 */

export type Reapers = Record<Family, Reaper> & Disposable;

export function loadReapers({ state }: Config, datapath: Datapath): Reapers {
  using stack = new DisposableStack();
  const load = (family: Family) =>
    stack.use(loadReaper(state.bpffs, family, (name) => datapath.map(family, name)));
  const [ipv4, ipv6] = [load('ipv4'), load('ipv6')];
  const owned = stack.move();
  return { ipv4, ipv6, [Symbol.dispose]: () => owned.dispose() };
}

/** What the node is kept with. */
export interface NodeParts {
  config: Config;
  attach: AttachMode;
  datapath: Datapath;
  reapers: Reapers;
  onReconciled(seconds: number): void;
  onApplied: NodeOptions['onApplied'];
  logger: Logger;
}

export function keepNode(parts: NodeParts): NodeKeeper {
  const { config, attach, datapath, reapers, onReconciled, onApplied, logger } = parts;
  const { bpffs, runDir } = config.state;
  const store = openEndpointStore(runDir, config.endpoints, (endpoint) => {
    logger.warn({ endpoint }, 'endpoint gave way to one of the configuration');
  });
  const scrub = async (addresses: Uint8Array[], mode: 'forced' | 'leaving') => {
    using scrubbed = openScrubbed(datapath);
    return await scrubAddresses(scrubbed.tables, addresses, reapWith(reapers, mode));
  };
  const { programs } = datapath;
  const tables = rowTables(datapath);
  const rows = FAMILIES.flatMap((family) => tables[family].endpoints.read());
  const known = knownNames(store.before, rows, endpointInterfaces(bpffs));
  const context = { bpffs, programs, attach, tables, scrub, logger };
  return createNode({ config, store, known, context, onReconciled, onApplied, logger });
}

function reapWith(reapers: Reapers, mode: 'forced' | 'leaving'): ForceReap {
  return async (family, table, ...keys) => {
    const { deleted } = await reapers[family].reap(table, ...keys, { mode });
    return deleted;
  };
}

/** The services, which wait for the node to be known. */
export function keepServices(parts: Omit<NodeParts, 'attach' | 'onApplied'>): ServiceKeeper {
  const { config, datapath, reapers, onReconciled, logger } = parts;
  const { bpffs, runDir } = config.state;
  using opened = new DisposableStack();
  const record = opened.use(openIdRecord(bpffs));
  const contents = opened.use(openTableRecord(bpffs));
  const tablesOf = (family: Family) =>
    kernelTables(family, (name) => datapath.map(family, name), contents);
  const reconciler = createReconciler({
    tables: { ipv4: tablesOf('ipv4'), ipv6: tablesOf('ipv6') },
    ...{ record, build: buildTables, logger },
    async flush(gone) {
      using scrubbed = openScrubbed(datapath);
      return await flushGone(scrubbed.tables, gone, reapWith(reapers, 'leaving'));
    },
  });
  const keeper = createServices({
    ...{ configured: config, store: openServiceStore(runDir), reconciler },
    ...{ onReconciled, logger },
    async counts() {
      const counts = noServiceCounts();
      for (const family of FAMILIES) {
        await readServiceCounts(datapath.map(family, 'service_counts'), family, counts);
      }
      return counts;
    },
  });
  const records = opened.move();
  return {
    ...keeper,
    async [Symbol.asyncDispose]() {
      await keeper[Symbol.asyncDispose]();
      records.dispose();
    },
  };
}

/** Interfaces whose endpoint hooks are attached. */
function endpointInterfaces(bpffs: string): Set<number> {
  const there = listAttachments(bpffs).filter(
    ({ hook, attached }) => attached && ENDPOINT_HOOKS.includes(hook),
  );
  return new Set(there.map(({ ifindex }) => ifindex));
}

/** Answers are looked for inside the NAT range only: connections that hold other ports end. */
export function warnOfSmallerRange(
  { masquerade: { ports } }: Config,
  datapath: Datapath,
  logger: Logger,
): void {
  const before = FAMILIES.flatMap((family) =>
    readDevices(datapath.map(family, 'devices'), family),
  ).find(({ port_min, port_max }) => port_min < ports.min || port_max > ports.max);
  if (!before) return;
  const { port_min: min, port_max: max } = before;
  logger.warn({ before: { min, max }, ports }, 'connections outside the smaller NAT range end');
}

/** The programs alone: the maps beside them stay open. */
export function programsOf({ programs }: Datapath): Disposable {
  return {
    [Symbol.dispose]() {
      for (const family of FAMILIES) for (const hook of HOOKS) programs[family][hook].close();
    },
  };
}

/** For the service manager, in one line. */
export function serving(node: NodeKeeper): string {
  const devices = node.devices().map(({ name }) => name);
  const endpoints = node.endpoints().filter(({ state }) => state === 'ready');
  return `serving ${endpoints.length} endpoints on ${devices.join(', ') || 'no device'}`;
}

export function metricSources(
  settings: Settings,
  version: string,
  datapath: Datapath,
  node: NodeKeeper,
): Omit<MetricsSources, 'interval' | 'isSettled' | 'evictions' | 'services'> {
  return {
    version,
    settings() {
      const { node, masquerade } = settings.config;
      const { min, max } = masquerade.ports;
      return { node: node.name, ports: max - min + 1 };
    },
    hooks: () => countHooks(node.hooks()),
    counters: (family) => readCounters(datapath.map(family, 'counters')),
    reattached: () => node.reattached(),
    capacity: (family, table) => datapath.map(family, table).maxEntries,
  };
}

function countHooks(hooks: readonly Attachment[]): ReturnType<MetricsSources['hooks']> {
  const count = (hook: Hook) => {
    const wanted = hooks.filter((slot) => slot.hook === hook);
    return { attached: wanted.filter(({ attached }) => attached).length, expected: wanted.length };
  };
  return Object.fromEntries(HOOKS.map((hook) => [hook, count(hook)])) as Record<Hook, HookCount>;
}

export function collect(
  settings: Settings,
  datapath: Datapath,
  reapers: Reapers,
  { metrics, grower }: { metrics: Metrics; grower: Grower },
  logger: Logger,
): Collector {
  const { gc, state } = settings.config;
  return startCollector({
    tables: () => connectionTables(datapath),
    reap: (family, table, ...keys) => reapers[family].reap(table, ...keys),
    now: datapathClock(state.bpffs),
    turnover: (family, table) => readTurnover(datapath.map(family, 'counters'), table),
    restores: () => settings.config.masquerade.restore,
    schedule: gc,
    lifetimes: () => settings.config.conntrack.timeouts,
    logger,
    onPass(result) {
      metrics.onPass(result);
      grower.onPass(result);
    },
    onFailure: metrics.onFailure,
    onRecord: metrics.onRecord,
    onRelief(result) {
      metrics.onRelief({ ...result, classes: result.deleted });
      grower.onRelief(result);
    },
  });
}

/** Other sizes for tables: those that are asked for, and those that lasting pressure asks for. */
export function resizing(
  { maps, state }: Config,
  { datapath, collector, metrics, logger }: ResizingParts,
): { resizer: Resizer; grower: Grower } {
  const bound = totalmem() * maps.maxMemoryRatio;
  const { exclusive } = collector;
  const { onResize } = metrics;
  const places = { bpffs: state.bpffs, datapath, exclusive, onResize };
  const resizer = createResizer({ ...places, bound, cpus: possibleCpus(), logger });
  const again = () => void collector.run('table_fill').catch(() => {});
  const grower = createGrower({ resizer, bound, again, now: () => performance.now(), logger });
  return { resizer, grower };
}

export interface ResizingParts {
  datapath: Datapath;
  collector: Collector;
  metrics: Metrics;
  logger: Logger;
}

/** What the datapath tells makes the collector come before its time. */
export function hearDatapath(
  datapath: Datapath,
  collector: Collector,
  metrics: Metrics,
  logger: Logger,
): Disposable {
  const [ipv4, ipv6] = [datapath.map('ipv4', 'events'), datapath.map('ipv6', 'events')];
  const answers = {
    nat_pressure: passWhenTold(collector, 'nat_pressure'),
    half_lost: passWhenTold(collector, 'half_lost'),
  };
  const onSignal = (signal: Signal) => {
    metrics.onSignal(signal);
    if (signal.type === 'table_fill') collector.relieve(signal.family);
    else answers[signal.type]();
  };
  return watchEvents({ ipv4, ipv6 }, onSignal, logger);
}

function datapathClock(bpffs: string): () => number {
  const state = readNodeState(bpffs);
  return () => datapathNow(state);
}
