import { setImmediate as nextTurn } from 'node:timers/promises';
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
import type { ServiceSource } from '../services/spec.ts';
import type { ApplyResult, ServiceView } from '../services/view.ts';
import { type Known, type ServiceSample, sampleService, viewService } from '../services/views.ts';
import type { ServiceCounts } from '../tables/service-counts.ts';
import { type ConfiguredServices, logConfigured, settleConfigured } from './configured-services.ts';
import { byName, choose, overruled, type ServicesByName } from './service-choice.ts';
import { readRequests } from './service-request.ts';
import type { ServiceStore } from './service-store.ts';

const RETRY_MS = 5000;
/** Services that are described before others have a turn. */
const AT_A_TIME = 256;

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

/** The services that are asked for, from all sources, and the datapath kept up with them. */
export interface ServiceKeeper extends AsyncDisposable {
  /** The node may have changed. Never rejects: what fails is tried again, and a problem until then. */
  follow(facts: NodeFacts): Promise<void>;
  /**
   * Puts others in place of the configuration's services; what is no longer valid stays as it
   * was. Never rejects either.
   */
  configure(configured: ConfiguredServices): Promise<void>;
  /**
   * Adds or changes services by name; what is rejected leaves what was there, and the others.
   * Rejects when they could not be stored, and then nothing has changed; or when the datapath
   * could not be changed: that will be tried again.
   */
  apply(items: readonly unknown[]): Promise<ApplyResult[]>;
  /** Throws E_NOT_FOUND, and E_CONFLICT for one of the configuration. */
  remove(name: string): Promise<ServiceView>;
  /** As they are now, some at a time, with turns for others in between. */
  views(): AsyncGenerator<ServiceView[], void, undefined>;
  /** Those of the configuration that are not valid. */
  invalid(): readonly RejectedService[];
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
  let configured = settleConfigured(options.configured, new Map());
  logConfigured(configured, logger);
  let added = byName(store.before.map(prepareService));
  /** Whether the store has others than `added`. */
  let isStale = false;
  /** What was sent for those that were added, by name. */
  const sent = new Map<string, string>();
  giveWay();
  let facts: NodeFacts | undefined;
  let compiled: Compiled | undefined;
  let ids: ReadonlyMap<Part, PartIds> = new Map();
  let failure: string | undefined;
  let retry: NodeJS.Timeout | undefined;
  let closed = false;

  const asked = (): Asked[] => [
    ...Array.from(configured.services.values(), (service) => ({
      service,
      source: 'config' as const,
    })),
    ...Array.from(added.values(), (service) => ({ service, source: 'api' as const })),
  ];
  const find = (name: string) => configured.services.get(name) ?? added.get(name);
  const sourceOf = (name: string): ServiceSource =>
    configured.services.has(name) ? 'config' : 'api';

  /** Services of the configuration are in the place of those that were added under their names. */
  function giveWay(): void {
    const losers = overruled(configured.services, added, logger);
    if (losers.length === 0) return;
    added = new Map(added);
    for (const name of losers) {
      added.delete(name);
      sent.delete(name);
    }
    isStale = true;
  }

  /** Nothing has changed when it fails. */
  async function put(next: ServicesByName): Promise<void> {
    await store.save(Array.from(next.values(), ({ spec }) => spec));
    added = next;
    isStale = false;
  }

  function compileNow(): Compiled | undefined {
    return facts && compile([...configured.services.values(), ...added.values()], facts, compiled);
  }

  async function reconcile(next = compileNow()): Promise<void> {
    if (!next) return;
    logRejected(next, compiled, logger);
    compiled = next;
    const begun = performance.now();
    try {
      const served = await reconciler.apply(next);
      ids = served.ids;
      failure = undefined;
      const { changes } = served;
      if (changes > 0) logger.info({ services: next.parts.size, changes }, 'services applied');
    } finally {
      onReconciled((performance.now() - begun) / 1000);
    }
  }

  /** For those that cannot tell anybody that it failed. */
  async function follow(): Promise<void> {
    try {
      await reconcile();
      if (isStale) await put(added);
    } catch (error) {
      logger.error({ err: error }, 'services could not be applied; they will be again');
      tryAgain(error);
    }
  }

  /** For those that can. */
  async function serve(next?: Compiled): Promise<void> {
    await reconcile(next).catch((error) => {
      tryAgain(error);
      throw error;
    });
  }

  function tryAgain(error: unknown): void {
    failure = `services: ${error instanceof Error ? error.message : error}`;
    clearTimeout(retry);
    if (!closed) retry = setTimeout(() => void serial(follow), RETRY_MS);
  }

  async function apply(items: readonly unknown[]): Promise<ApplyResult[]> {
    if (!facts) throw new SekishoError('E_NOT_RUNNING', 'the node is not known yet');
    const requests = await readRequests(items, (name, text) => sent.get(name) === text);
    const choice = choose(requests, { configured: configured.services, added, facts, compiled });
    if (choice.isChanged) await put(choice.added);
    for (const { name, text } of choice.known) sent.set(name, text);
    if (choice.isChanged || failure !== undefined) await serve(choice.compiled);
    return choice.results.map((result) => ({ ...result, id: idOf(result.name) }));
  }

  function idOf(name: string): number {
    const service = find(name);
    const part = service && compiled?.parts.get(service)?.[0];
    return (part && ids.get(part)?.service) ?? 0;
  }

  async function remove(name: string): Promise<ServiceView> {
    const service = require(name);
    if (sourceOf(name) === 'config') {
      throw new SekishoError('E_CONFLICT', `service ${name} comes from the configuration`, {
        hint: 'remove it from the file and reload',
      });
    }
    const view = viewService(service, 'api', await known());
    await put(new Map(Array.from(added).filter(([other]) => other !== name)));
    sent.delete(name);
    await serve();
    return view;
  }

  function require(name: string): PreparedService {
    const there = find(name);
    if (there) return there;
    throw new SekishoError('E_NOT_FOUND', `there is no service "${name}"`, {
      hint: 'sekisho service list shows them',
    });
  }

  function view(service: PreparedService, source: ServiceSource, now: Known): ServiceView {
    return withStale(viewService(service, source, now), configured.stale.get(service.spec.name));
  }

  async function known(): Promise<Known> {
    return { counts: await counts(), compiled, ids };
  }

  /** As they are now, in turns with others. */
  async function* inTurns<T>(view: (service: Asked, now: Known) => T) {
    const [now, all] = [await known(), asked()];
    for (let at = 0; at < all.length; at += AT_A_TIME) {
      yield all.slice(at, at + AT_A_TIME).map((service) => view(service, now));
      await nextTurn();
    }
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
        configured = settleConfigured(next, configured.services);
        logConfigured(configured, logger);
        giveWay();
        await follow();
      }),
    apply: (items) => serial(() => apply(items)),
    remove: (name) => serial(() => remove(name)),
    views: () => inTurns(({ service, source }, now) => view(service, source, now)),
    invalid: () => configured.invalid,
    async get(name) {
      return view(require(name), sourceOf(name), await known());
    },
    async samples() {
      const all: ServiceSample[] = [];
      const batches = inTurns(({ service }, now) => sampleService(service, now));
      for await (const batch of batches) all.push(...batch);
      return all;
    },
    totals: () => ({
      total: configured.services.size + added.size + configured.invalid.length,
      rejected: (compiled?.rejected.size ?? 0) + configured.invalid.length + configured.stale.size,
    }),
    problem: () => failure,
    warnings: () => [
      ...(facts?.problems ?? []),
      ...configured.invalid.map(({ name, reason }) => `service ${name}: ${reason}`),
      ...Array.from(configured.stale, ([name, reason]) => `service ${name}: ${reason}`),
      ...Array.from(
        compiled?.rejected ?? [],
        ([{ spec }, reason]) => `service ${spec.name}: ${reason}`,
      ),
    ],
    async [Symbol.asyncDispose]() {
      closed = true;
      clearTimeout(retry);
      await serial(() => {});
    },
  };
}

/** With what is wrong with what it was to become. */
function withStale(view: ServiceView, reason: string | undefined): ServiceView {
  if (reason === undefined) return view;
  const rest = view.state === 'rejected' ? '' : '; the one before stays';
  return { ...view, problems: [...view.problems, `${reason}${rest}`] };
}

function logRejected(next: Compiled, before: Compiled | undefined, logger: Logger): void {
  for (const [service, reason] of next.rejected) {
    if (before?.rejected.get(service) === reason) continue;
    logger.warn({ service: service.spec.name, reason }, 'service rejected');
  }
}
