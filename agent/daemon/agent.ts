import { join } from 'node:path';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import type { Config } from '../config/schema.ts';
import { splitListen } from '../config/values.ts';
import type { AttachMode } from '../engine/attach.ts';
import type { Datapath } from '../engine/datapath.ts';
import { openEvictionRecord } from '../engine/eviction-record.ts';
import { refuseForeignHooks, refuseForeignQdiscs } from '../engine/foreign.ts';
import type { Grower } from '../engine/grower.ts';
import { watchNetwork } from '../engine/ip-tool.ts';
import type { Capabilities } from '../kernel/capabilities.ts';
import { createLogger } from '../telemetry/log.ts';
import { reconcileTimer, registerMetrics } from '../telemetry/metrics.ts';
import { type MetricsServer, serveMetrics } from '../telemetry/server.ts';
import { serveApi } from './api.ts';
import { checkAgainstNetwork, checkMachine, chooseAttach } from './checks.ts';
import { createControl } from './control.ts';
import { createLoader, type DatapathLoader } from './load.ts';
import { lockAgent, lockPins } from './locks.ts';
import type { NodeKeeper } from './node.ts';
import { createNotifier, type Notifier } from './notify.ts';
import {
  collect,
  hearDatapath,
  keepNode,
  keepServices,
  loadReapers,
  metricSources,
  programsOf,
  type Reapers,
  resizing,
  serving,
  warnOfSmallerRange,
} from './parts.ts';
import { createReloader, type Reloader, type Settings } from './reload.ts';
import { serviceFacts } from './service-facts.ts';
import type { ServiceKeeper } from './services.ts';
import type { Signals } from './signals.ts';
import { packageVersion } from './version.ts';

const DEFAULT_LISTEN = { host: '127.0.0.1', port: 9964 };

/** What there is from the first moment on. */
interface Surroundings {
  settings: Settings;
  read: () => Promise<Config>;
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
  read: () => Promise<Config>,
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

/** Each step is checked before the next one changes anything. */
async function start(daemon: Surroundings, stack: AsyncDisposableStack): Promise<void> {
  const { settings, signals, notifier, logger } = daemon;
  const { config } = settings;
  const about = { version: packageVersion(), startedAt: new Date() };
  const machine = await check(daemon, about.version, stack);
  signals.stopping.throwIfAborted();
  const pages = createPages();
  const server = stack.use(await pages.listen(config));
  const loader = createLoader(machine.capabilities, logger);
  const datapath = stack.use(await loader.load(config));
  signals.stopping.throwIfAborted();
  const base = { ...daemon, ...about, ...machine, pages, server, loader, datapath };
  const parts = await attach(base, stack);
  const { node } = parts;
  const reloader = await serve({ ...base, ...parts }, stack);
  signals.stopping.throwIfAborted();
  logger.info({ metrics: config.metrics.listen }, 'ready');
  notifier.ready(serving(node));
  signals.onReload(() => reloader.reload());
}

interface Machine {
  capabilities: Capabilities;
  attach: AttachMode;
}

/** Nothing but locks is there afterwards that was not there before. */
async function check(
  { settings: { config }, logger }: Surroundings,
  version: string,
  stack: AsyncDisposableStack,
): Promise<Machine> {
  const { bpffs, runDir } = config.state;
  stack.use(lockAgent(runDir));
  logger.info({ version, node: config.node.name, bpffs }, 'starting');
  const capabilities = checkMachine(bpffs);
  const attach = chooseAttach(config.datapath, capabilities);
  stack.use(lockPins(bpffs));
  const devices = await checkAgainstNetwork(config);
  refuseForeignHooks(bpffs, devices);
  if (attach === 'tc') refuseForeignQdiscs(devices);
  return { capabilities, attach };
}

/** Metrics and probes, wherever they are served. */
interface Pages {
  registry: Registry;
  listen(config: Config): Promise<MetricsServer>;
  /** Not ready until somebody tells. */
  problems(): string[];
}

function createPages(): Pages {
  const pages: Pages = {
    registry: new Registry(),
    problems: () => ['starting'],
    listen({ metrics }) {
      const address = splitListen(metrics.listen) ?? DEFAULT_LISTEN;
      return serveMetrics({
        ...address,
        registry: pages.registry,
        problems: () => pages.problems(),
      });
    },
  };
  return pages;
}

interface Loaded extends Surroundings, Machine {
  version: string;
  startedAt: Date;
  pages: Pages;
  server: MetricsServer;
  loader: DatapathLoader;
  datapath: Datapath;
}

/** Puts the datapath into effect, and keeps it up with the network. */
async function attach(
  { settings: { config }, attach, datapath, pages, logger }: Loaded,
  stack: AsyncDisposableStack,
): Promise<{ node: NodeKeeper; services: ServiceKeeper; reapers: Reapers }> {
  const reapers = stack.use(loadReapers(config, datapath));
  const onReconciled = reconcileTimer(pages.registry);
  const parts = { config, attach, datapath, reapers, onReconciled, logger };
  const services = stack.use(keepServices(parts));
  let followed: Promise<void> | undefined;
  const node = stack.use(
    keepNode({
      ...parts,
      onApplied(...now) {
        followed = services.follow(serviceFacts(...now));
      },
    }),
  );
  warnOfSmallerRange(config, datapath, logger);
  await datapath.carryOver();
  await node.refresh();
  await followed;
  await datapath.settle();
  logger.info({ attach }, 'datapath attached');
  stack.use(watchNetwork(() => node.changed(), logger));
  return { node, services, reapers };
}

interface Attached extends Loaded {
  node: NodeKeeper;
  services: ServiceKeeper;
  reapers: Reapers;
}

/** Collects, and answers metrics, probes and the socket. */
async function serve(parts: Attached, stack: AsyncDisposableStack): Promise<Reloader> {
  const { settings, version, datapath, pages, server, loader, node, reapers, logger } = parts;
  const { services } = parts;
  const { config } = settings;
  const metrics = registerMetrics(pages.registry, {
    ...metricSources(settings, version, datapath, node),
    services: () => services.samples(),
    interval: () => collector.status().intervalSeconds,
    isSettled: (family, table) => resizer.isSettled(family, table),
    evictions: stack.use(openEvictionRecord(config.state.bpffs)),
  });
  const hears = {
    metrics,
    grower: {
      onPass: (result) => grower.onPass(result),
      onRelief: (result) => grower.onRelief(result),
    } satisfies Grower,
  };
  const collector = collect(settings, datapath, reapers, hears, logger);
  stack.defer(() => collector.stop());
  const { resizer, grower } = resizing(config, { datapath, collector, metrics, logger });
  void stack.use(resizer).resume();
  stack.use(hearDatapath(datapath, collector, metrics, logger));
  const reloader = stack.use(
    createReloader({
      ...parts,
      load: (next) => collector.exclusive(() => loader.reload(next)),
      listen: pages.listen,
      first: { programs: programsOf(datapath), server },
      applied({ gc, log }) {
        logger.level = log.level;
        collector.reschedule(gc);
      },
      describe: () => serving(node),
      onReload: metrics.onReload,
    }),
  );
  const control = createControl({ ...parts, collector, resizer, reloader });
  stack.use(await serveApi(control, join(config.state.runDir, 'agent.sock')));
  pages.problems = () => control.health().problems;
  return reloader;
}
