import { join } from 'node:path';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { configWarnings } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { splitListen } from '../config/values.ts';
import type { AttachMode } from '../engine/attach.ts';
import { type Collector, startCollector } from '../engine/collector.ts';
import type { Datapath } from '../engine/datapath.ts';
import { refuseForeignHooks } from '../engine/foreign.ts';
import { watchNetwork } from '../engine/ip-tool.ts';
import { loadReaper, type Reaper } from '../engine/reap.ts';
import { scrubAddresses } from '../engine/scrub.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { datapathNow, readNodeState } from '../tables/clock.ts';
import { readCounters } from '../tables/counters.ts';
import { readDevices } from '../tables/devices.ts';
import { HOOKS } from '../tables/names.ts';
import { createLogger } from '../telemetry/log.ts';
import {
  type Metrics,
  type MetricsSources,
  reconcileTimer,
  registerMetrics,
} from '../telemetry/metrics.ts';
import { serveMetrics } from '../telemetry/server.ts';
import { serveApi } from './api.ts';
import { checkAgainstNetwork, checkMachine, chooseAttach } from './checks.ts';
import { createControl } from './control.ts';
import { openEndpointStore } from './endpoint-store.ts';
import { createLoader } from './load.ts';
import { lockAgent, lockPins } from './locks.ts';
import { createNode, type NodeKeeper } from './node.ts';
import { createNotifier, type Notifier } from './notify.ts';
import { createReloader, type Settings } from './reload.ts';
import type { Signals } from './signals.ts';
import { connectionTables, rowTables } from './tables.ts';
import { packageVersion } from './version.ts';

const COLLECT_EVERY_S = 30;
const DEFAULT_LISTEN = { host: '127.0.0.1', port: 9964 };

/** What there is from the first moment on. */
interface Surroundings {
  settings: Settings;
  read: () => Config;
  signals: Signals;
  notifier: Notifier;
  logger: Logger;
}

/**
 * Runs the daemon until SIGTERM or SIGINT; links and maps stay. `read` gives the configuration
 * as the file has it later on. Throws SekishoError when it cannot start, then with nothing
 * changed that was there before.
 */
export async function runAgent(
  config: Config,
  read: () => Config,
  signals: Signals,
): Promise<void> {
  const logger = createLogger(config.log.level);
  using notifier = createNotifier(process.env, logger);
  {
    await using stack = new AsyncDisposableStack();
    try {
      await start({ settings: { config }, read, signals, notifier, logger }, stack);
    } catch (error) {
      if (error !== signals.stopping.reason) throw error;
    }
    const signal = await signals.stop;
    notifier.stopping();
    logger.info({ signal }, 'stopping; links and maps stay');
  }
  logger.info('stopped');
}

async function start(surroundings: Surroundings, stack: AsyncDisposableStack): Promise<void> {
  const { settings, read, signals, notifier, logger } = surroundings;
  const { config } = settings;
  const startedAt = new Date();
  const version = packageVersion();
  const { bpffs, runDir } = config.state;
  stack.use(lockAgent(runDir));
  logger.info({ version, node: config.node.name, bpffs }, 'starting');
  for (const warning of configWarnings(config)) logger.warn({ warning }, 'configuration');

  const capabilities = checkMachine(bpffs);
  const attach = chooseAttach(config.datapath, capabilities);
  stack.use(lockPins(bpffs));
  refuseForeignHooks(bpffs, await checkAgainstNetwork(config));
  signals.stopping.throwIfAborted();
  const registry = new Registry();
  let problems = () => ['starting'];
  const listen = ({ metrics }: Config) =>
    serveMetrics({
      ...(splitListen(metrics.listen) ?? DEFAULT_LISTEN),
      registry,
      problems: () => problems(),
    });
  const server = stack.use(await listen(config));
  const loader = createLoader(capabilities, logger);
  const datapath = stack.use(await loader.load(config));
  signals.stopping.throwIfAborted();
  const reaperOf = (family: Family) =>
    loadReaper(bpffs, family, (name) => datapath.map(family, name));
  const reapers = { ipv4: reaperOf('ipv4'), ipv6: reaperOf('ipv6') };
  stack.use(reapers.ipv4);
  stack.use(reapers.ipv6);

  const node = stack.use(
    keepNode(config, attach, datapath, reapers, reconcileTimer(registry), logger),
  );
  warnOfSmallerRange(config, datapath, logger);
  await node.refresh();
  await datapath.settle();
  logger.info({ attach }, 'datapath attached');
  stack.use(watchNetwork(() => node.changed(), logger));

  const metrics = registerMetrics(registry, metricSources(settings, version, datapath, node));
  const collector = collect(config, datapath, reapers, metrics, logger);
  stack.defer(() => collector.stop());
  const describe = () => serving(node);
  const reloader = stack.use(
    createReloader({
      settings,
      read,
      load: loader.reload,
      listen,
      first: { programs: programsOf(datapath), server },
      node,
      applied({ gc, log }) {
        logger.level = log.level;
        collector.reschedule(collectInterval(gc) * 1000);
      },
      describe,
      onReload: metrics.onReload,
      notifier,
      logger,
    }),
  );
  const parts = { settings, version, startedAt, capabilities, node, collector, datapath, reloader };
  const control = createControl(parts);
  stack.use(await serveApi(control, join(runDir, 'agent.sock')));
  problems = () => control.health().problems;
  signals.stopping.throwIfAborted();
  logger.info({ metrics: config.metrics.listen }, 'ready');
  notifier.ready(describe());
  signals.onReload(() => reloader.reload());
}

type Reapers = Record<Family, Reaper>;

function keepNode(
  config: Config,
  attach: AttachMode,
  datapath: Datapath,
  reapers: Reapers,
  onReconciled: (seconds: number) => void,
  logger: Logger,
): NodeKeeper {
  const { bpffs, runDir } = config.state;
  const store = openEndpointStore(runDir, config.endpoints, (endpoint) => {
    logger.warn({ endpoint }, 'endpoint gave way to one of the configuration');
  });
  const scrubbed = connectionTables(datapath);
  const scrub = (addresses: Uint8Array[]) =>
    scrubAddresses(scrubbed, addresses, async (family, table, keys, count) => {
      const { deleted } = await reapers[family].reap(table, keys, count, { force: true });
      return deleted;
    });
  const { programs } = datapath;
  const context = { bpffs, programs, attach, tables: rowTables(datapath), scrub, logger };
  return createNode({ config, store, context, onReconciled, logger });
}

/** Answers are looked for inside the NAT range only. */
function warnOfSmallerRange(
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
function programsOf({ programs }: Datapath): Disposable {
  return {
    [Symbol.dispose]() {
      for (const family of FAMILIES) for (const hook of HOOKS) programs[family][hook].close();
    },
  };
}

/** For the service manager, in one line. */
function serving(node: NodeKeeper): string {
  const devices = node.devices().map(({ name }) => name);
  const endpoints = node.endpoints().filter(({ state }) => state === 'ready');
  return `serving ${endpoints.length} endpoints on ${devices.join(', ') || 'no device'}`;
}

function metricSources(
  settings: Settings,
  version: string,
  datapath: Datapath,
  node: NodeKeeper,
): MetricsSources {
  return {
    version,
    settings() {
      const { node, masquerade, gc } = settings.config;
      const { min, max } = masquerade.ports;
      return { node: node.name, ports: max - min + 1, interval: collectInterval(gc) };
    },
    counters: (family) => readCounters(datapath.map(family, 'counters')),
    reattached: () => node.reattached(),
    capacity: (family, table) => datapath.map(family, table).maxEntries,
  };
}

function collectInterval({ interval }: Config['gc']): number {
  return interval === 'auto' ? COLLECT_EVERY_S : interval;
}

function collect(
  { gc, state }: Config,
  datapath: Datapath,
  reapers: Reapers,
  metrics: Metrics,
  logger: Logger,
): Collector {
  const now = datapathClock(state.bpffs);
  return startCollector({
    tables: connectionTables(datapath),
    reap: (family, table, keys, count) => reapers[family].reap(table, keys, count),
    now,
    turnover(family, table) {
      const { created, deleted } = readCounters(datapath.map(family, 'counters'));
      return { created: Number(created[table]), deleted: Number(deleted[table]) };
    },
    intervalMs: collectInterval(gc) * 1000,
    logger,
    onPass: metrics.onPass,
    onFailure: metrics.onFailure,
  });
}

function datapathClock(bpffs: string): () => number {
  const state = readNodeState(bpffs);
  return () => datapathNow(state);
}
