import { totalmem } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { configWarnings } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { splitListen } from '../config/values.ts';
import type { AttachMode } from '../engine/attach.ts';
import { calibrateNode, writeNodeState } from '../engine/clock.ts';
import { type Collector, startCollector } from '../engine/collector.ts';
import { type Datapath, prepareDatapath } from '../engine/datapath.ts';
import { readNetwork, watchNetwork } from '../engine/ip-tool.ts';
import type { LoadSettings } from '../engine/load-settings.ts';
import { checkMasqueradeAddresses, selectDevices } from '../engine/network.ts';
import { loadReaper, type Reaper } from '../engine/reap.ts';
import { scrubAddresses } from '../engine/scrub.ts';
import { sizeMaps } from '../engine/sizing.ts';
import type { Capabilities } from '../kernel/capabilities.ts';
import type { Family } from '../lib/ip.ts';
import { datapathNow, readNodeState } from '../tables/clock.ts';
import { readCounters } from '../tables/counters.ts';
import { createLogger } from '../telemetry/log.ts';
import { type Metrics, type MetricsSources, registerMetrics } from '../telemetry/metrics.ts';
import { serveMetrics } from '../telemetry/server.ts';
import { serveApi } from './api.ts';
import { checkMachine, chooseAttach, takeLock } from './checks.ts';
import { createControl } from './control.ts';
import { openEndpointStore } from './endpoint-store.ts';
import { createNode, type NodeKeeper } from './node.ts';
import { connectionTables, rowTables } from './tables.ts';
import { packageVersion } from './version.ts';

const COLLECT_EVERY_S = 30;
const DEFAULT_LISTEN = { host: '127.0.0.1', port: 9964 };

/**
 * Runs the daemon until SIGTERM or SIGINT; links and maps stay. Throws SekishoError when it
 * cannot start, then with nothing changed that was there before.
 */
export async function runAgent(config: Config): Promise<void> {
  const logger = createLogger(config.log.level);
  using signals = catchSignals(logger);
  {
    await using stack = new AsyncDisposableStack();
    await start(config, logger, stack);
    const signal = await signals.stop;
    logger.info({ signal }, 'stopping; links and maps stay');
  }
  logger.info('stopped');
}

async function start(config: Config, logger: Logger, stack: AsyncDisposableStack): Promise<void> {
  const startedAt = new Date();
  const version = packageVersion();
  const { bpffs, runDir } = config.state;
  stack.use(takeLock(runDir));
  logger.info({ version, node: config.node.name, bpffs }, 'starting');
  for (const warning of configWarnings(config)) logger.warn({ warning }, 'configuration');

  const capabilities = checkMachine(bpffs);
  const attach = chooseAttach(config.datapath, capabilities);
  await checkAgainstNetwork(config);
  const registry = new Registry();
  let problems = () => ['starting'];
  const address = splitListen(config.metrics.listen) ?? DEFAULT_LISTEN;
  stack.use(await serveMetrics({ ...address, registry, problems: () => problems() }));
  const datapath = stack.use(await loadDatapath(config, capabilities, logger));
  const reapers = { ipv4: loadReaper(bpffs, 'ipv4'), ipv6: loadReaper(bpffs, 'ipv6') };
  stack.use(reapers.ipv4);
  stack.use(reapers.ipv6);

  const node = stack.use(keepNode(config, attach, datapath, reapers, logger));
  await node.refresh();
  logger.info({ attach }, 'datapath attached');
  stack.use(watchNetwork(() => node.changed(), logger));

  const metrics = registerMetrics(registry, metricSources(config, version, datapath));
  const collector = collect(config, datapath, reapers, metrics, logger);
  stack.defer(() => collector.stop());
  const control = createControl({
    config,
    version,
    startedAt,
    capabilities,
    node,
    collector,
    datapath,
  });
  stack.use(await serveApi(control, join(runDir, 'agent.sock')));
  problems = () => control.health().problems;
  logger.info({ metrics: config.metrics.listen }, 'ready');
}

async function checkAgainstNetwork({ node, masquerade }: Config): Promise<void> {
  const network = await readNetwork();
  selectDevices(network, node.devices);
  checkMasqueradeAddresses(network, masquerade.addresses);
}

async function loadDatapath(
  config: Config,
  capabilities: Capabilities,
  logger: Logger,
): Promise<Datapath> {
  const { bpffs } = config.state;
  const { ctTcp, ctAny, nat } = sizeMaps(config.maps, totalmem());
  const sizes = { ct_tcp: ctTcp, ct_any: ctAny, snat: nat };
  using prepared = prepareDatapath({ bpffs, sizes, logger });
  const state = calibrateNode(bpffs);
  const { secret, hz } = state;
  const datapath = await prepared.load({ secret, hz, ...loadSettings(config, capabilities) });
  writeNodeState(bpffs, state);
  return datapath;
}

function loadSettings(
  { conntrack, masquerade, datapath }: Config,
  { fibSkipNeigh, csumIpv6 }: Capabilities,
): Omit<LoadSettings, 'secret' | 'hz'> {
  return {
    timeouts: conntrack.timeouts,
    accounting: conntrack.accounting,
    masquerade: masquerade.enabled,
    restore: masquerade.restore,
    fastRouting: datapath.routing === 'fast',
    fibSkipNeigh,
    csumIpv6,
  };
}

type Reapers = Record<Family, Reaper>;

function keepNode(
  config: Config,
  attach: AttachMode,
  datapath: Datapath,
  reapers: Reapers,
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
  return createNode({ config, store, context, logger });
}

function metricSources(
  { node, masquerade: { ports }, gc }: Config,
  version: string,
  datapath: Datapath,
): MetricsSources {
  return {
    version,
    node: node.name,
    counters: (family) => readCounters(datapath.map(family, 'counters')),
    capacity: (family, table) => datapath.map(family, table).maxEntries,
    ports: ports.max - ports.min + 1,
    interval: collectInterval(gc),
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

function catchSignals(logger: Logger): Disposable & { stop: Promise<NodeJS.Signals> } {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  const reload = () => logger.warn('SIGHUP: a changed configuration needs a restart');
  process.on('SIGTERM', resolve);
  process.on('SIGINT', resolve);
  process.on('SIGHUP', reload);
  return {
    stop: promise,
    [Symbol.dispose]() {
      process.off('SIGTERM', resolve);
      process.off('SIGINT', resolve);
      process.off('SIGHUP', reload);
    },
  };
}
