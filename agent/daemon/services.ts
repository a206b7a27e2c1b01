import type { RejectedService } from '../config/schema.ts';
import type { Logger } from '../engine/logger.ts';
import { createSerial } from '../engine/serial.ts';
import { SekishoError } from '../lib/errors.ts';
import { type Compiled, compile } from '../services/compile.ts';
import { factsText, type NodeFacts } from '../services/facts.ts';
import type { PartIds } from '../services/ids.ts';
import type { Part } from '../services/parts.ts';
import { type PreparedService, prepareService } from '../services/prepare.ts';
import type { ServiceReconciler } from '../services/reconciler.ts';
import type { ServiceSource, ServiceSpec } from '../services/spec.ts';
import type { ApplyResult, ServiceView } from '../services/view.ts';
import { type Known, type ServiceSample, sampleService, viewService } from '../services/views.ts';
import type { ServiceCounts } from '../tables/service-counts.ts';
import { byName, choose, overruled } from './service-choice.ts';
import { readRequests } from './service-request.ts';
import type { ServiceStore } from './service-store.ts';

const RETRY_MS = 5000;

export interface ServiceOptions {
  /** Of the configuration. */
  configured: ConfiguredServices;
  store: ServiceStore;
  reconciler: ServiceReconciler;
  counts(): Promise<ServiceCounts>;
  /** After the maps were made to follow, or that failed. */
  onReconciled(seconds: number): void;
  logger: Logger;
}

/** Services of the configuration, and those of it that are not valid. */
export interface ConfiguredServices {
  services: readonly ServiceSpec[];
  rejectedServices?: readonly RejectedService[];
}

/** The services that are asked for, from all sources, and the datapath kept up with them. */
export interface ServiceKeeper extends AsyncDisposable {
  /** The node may have changed. Never rejects: what fails is tried again, and a problem until then. */
  follow(facts: NodeFacts): Promise<void>;
  /** Puts others in place of the configuration's services. Never rejects either. */
  configure(configured: ConfiguredServices): Promise<void>;
  /**
   * Adds or changes services by name; what is rejected leaves what was there, and the others.
   * Rejects when the datapath could not be changed: it will be tried again.
   */
  apply(items: readonly unknown[]): Promise<ApplyResult[]>;
  /** Throws E_NOT_FOUND, and E_CONFLICT for one of the configuration. */
  remove(name: string): Promise<ServiceView>;
  list(): Promise<ServiceView[]>;
  /** Throws E_NOT_FOUND. */
  get(name: string): Promise<ServiceView>;
  /** For metrics. */
  samples(): Promise<ServiceSample[]>;
  /** How many are asked for, and how many of them are rejected. */
  totals(): { total: number; rejected: number };
  /** Why the datapath does not serve what it should; undefined when it does. */
  problem(): string | undefined;
  /** What cannot be served, one sentence each. */
  warnings(): string[];
}

interface Asked {
  service: PreparedService;
  source: ServiceSource;
}

/** Every change runs after the one before it. Nothing is served before the node is known. */
export function createServices(options: ServiceOptions): ServiceKeeper {
  const { store, reconciler, counts, onReconciled, logger } = options;
  const serial = createSerial();
  let configured = options.configured.services.map(prepareService);
  let leftOut = options.configured.rejectedServices ?? [];
  logLeftOut(leftOut, logger);
  let added = byName(store.before.map(prepareService));
  for (const name of overruled(configured, added, logger)) added.delete(name);
  /** What was sent for those that were added, by name. */
  const sent = new Map<string, string>();
  let facts: NodeFacts | undefined;
  let compiled: Compiled | undefined;
  let ids: ReadonlyMap<Part, PartIds> = new Map();
  let full = 0;
  let failure: string | undefined;
  let retry: NodeJS.Timeout | undefined;
  let closed = false;

  const asked = (): Asked[] => [
    ...configured.map((service) => ({ service, source: 'config' as const })),
    ...Array.from(added.values(), (service) => ({ service, source: 'api' as const })),
  ];
  const find = (name: string) => asked().find(({ service }) => service.spec.name === name);

  function compileNow(): Compiled | undefined {
    return (
      facts &&
      compile(
        asked().map(({ service }) => service),
        facts,
        compiled,
      )
    );
  }

  async function reconcile(next = compileNow()): Promise<void> {
    if (!next) return;
    logRejected(next, compiled, logger);
    compiled = next;
    const begun = performance.now();
    try {
      const served = await reconciler.apply(next);
      ids = served.ids;
      full = served.full.length;
      failure = undefined;
      const { changes } = served;
      if (changes > 0) logger.info({ services: next.parts.size, changes }, 'services applied');
    } catch (error) {
      failure = `services: ${error instanceof Error ? error.message : error}`;
      throw error;
    } finally {
      onReconciled((performance.now() - begun) / 1000);
    }
  }

  /** For those that cannot tell anybody that it failed. */
  async function follow(): Promise<void> {
    await reconcile().catch((error) => {
      logger.error({ err: error }, 'services could not be applied; they will be again');
      tryAgain();
    });
  }

  function tryAgain(): void {
    clearTimeout(retry);
    if (!closed) retry = setTimeout(() => void serial(follow), RETRY_MS);
  }

  async function commit(next?: Compiled): Promise<void> {
    await store.save(Array.from(added.values(), ({ spec }) => spec));
    await reconcile(next).catch((error) => {
      tryAgain();
      throw error;
    });
  }

  async function apply(items: readonly unknown[]): Promise<ApplyResult[]> {
    if (!facts) throw new SekishoError('E_NOT_RUNNING', 'the node is not known yet');
    const requests = await readRequests(items, (name, text) => sent.get(name) === text);
    const choice = choose(requests, { configured, added, facts, compiled });
    for (const { name, text } of requests) if (choice.known.has(name)) sent.set(name, text);
    if (choice.isChanged) {
      added = choice.added;
      await commit(choice.compiled);
    }
    return choice.results.map((result) => ({ ...result, id: idOf(result.name) }));
  }

  function idOf(name: string): number {
    const service = added.get(name) ?? find(name)?.service;
    const part = service && compiled?.parts.get(service)?.[0];
    return (part && ids.get(part)?.service) ?? 0;
  }

  async function remove(name: string): Promise<ServiceView> {
    const { service, source } = require(name);
    if (source === 'config') {
      throw new SekishoError('E_CONFLICT', `service ${name} comes from the configuration`, {
        hint: 'remove it from the file and reload',
      });
    }
    const view = viewService(service, source, await known());
    added.delete(name);
    sent.delete(name);
    await commit();
    return view;
  }

  function require(name: string): Asked {
    const there = find(name);
    if (there) return there;
    throw new SekishoError('E_NOT_FOUND', `there is no service "${name}"`, {
      hint: 'sekisho service list shows them',
    });
  }

  async function known(): Promise<Known> {
    return { counts: await counts(), compiled, ids };
  }

  return {
    follow: (next) =>
      serial(async () => {
        if (facts && factsText(facts) === factsText(next)) return;
        facts = next;
        await follow();
      }),
    configure: (next) =>
      serial(async () => {
        configured = keepSame(next.services, configured);
        leftOut = next.rejectedServices ?? [];
        logLeftOut(leftOut, logger);
        for (const name of overruled(configured, added, logger)) {
          added.delete(name);
          sent.delete(name);
        }
        await store.save(Array.from(added.values(), ({ spec }) => spec));
        await follow();
      }),
    apply: (items) => serial(() => apply(items)),
    remove: (name) => serial(() => remove(name)),
    async list() {
      const now = await known();
      return asked().map(({ service, source }) => viewService(service, source, now));
    },
    async get(name) {
      const { service, source } = require(name);
      return viewService(service, source, await known());
    },
    async samples() {
      const now = await known();
      return asked().map(({ service }) => sampleService(service, now));
    },
    totals: () => ({
      total: asked().length + leftOut.length,
      rejected: (compiled?.rejected.size ?? 0) + leftOut.length,
    }),
    problem: () => failure,
    warnings: () => [
      ...(facts?.problems ?? []),
      ...leftOut.map(({ name, reason }) => `service ${name}: ${reason}`),
      ...Array.from(
        compiled?.rejected ?? [],
        ([{ spec }, reason]) => `service ${spec.name}: ${reason}`,
      ),
      ...(full > 0 ? [`no index of rev_nat is left for ${full} services`] : []),
    ],
    async [Symbol.asyncDispose]() {
      closed = true;
      clearTimeout(retry);
      await serial(() => {});
    },
  };
}

function keepSame(
  next: readonly ServiceSpec[],
  before: readonly PreparedService[],
): PreparedService[] {
  const known = new Map(before.map((service) => [JSON.stringify(service.spec), service]));
  return next.map((spec) => known.get(JSON.stringify(spec)) ?? prepareService(spec));
}

function logLeftOut(services: readonly RejectedService[], logger: Logger): void {
  for (const { name: service, reason } of services) {
    logger.warn({ service, reason }, 'service rejected');
  }
}

function logRejected(next: Compiled, before: Compiled | undefined, logger: Logger): void {
  for (const [service, reason] of next.rejected) {
    if (before?.rejected.get(service) === reason) continue;
    logger.warn({ service: service.spec.name, reason }, 'service rejected');
  }
}
