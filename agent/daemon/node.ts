import type { Config } from '../config/schema.ts';
import type { Attachment, Hook, Programs } from '../engine/attach.ts';
import { readSlot, type Slot } from '../engine/attachment.ts';
import { lostSlots, plannedSlots } from '../engine/hook-watch.ts';
import { readNetwork } from '../engine/ip-tool.ts';
import type { Logger } from '../engine/logger.ts';
import {
  hasAddress,
  type Interface,
  type NetworkState,
  requireInterface,
} from '../engine/network.ts';
import { type Plan, standsFor, unfit } from '../engine/plan.ts';
import { type ReconcileContext, reconcile } from '../engine/reconcile.ts';
import { createSerial } from '../engine/serial.ts';
import { SekishoError } from '../lib/errors.ts';
import { parseAddress } from '../lib/ip.ts';
import { HOOKS } from '../tables/names.ts';
import type { EndpointView } from './api.ts';
import type { EndpointRequest, EndpointStore, StoredEndpoint } from './endpoint-store.ts';
import { type Applied, planFor } from './node-plan.ts';

const RETRY_MS = 5000;
const CHECK_MS = 2000;

export interface NodeOptions {
  config: Config;
  store: EndpointStore;
  /** Interfaces that stood for a name when the daemon ran last, by ifindex. */
  known?: ReadonlyMap<string, number>;
  context: ReconcileContext;
  /** After maps and hooks were made to follow a plan, or that failed. */
  onReconciled(seconds: number): void;
  /** After a plan was put into effect. */
  onApplied(config: Config, plan: Plan, network: NetworkState): void;
  logger: Logger;
}

/** The node as the datapath serves it: its devices and endpoints, kept up with the network. */
export interface NodeKeeper extends AsyncDisposable {
  /** Reads the network and applies it. Rejects when that fails. */
  refresh(): Promise<void>;
  /** The network may have changed: refreshes, and tries again every 5 s while that fails. */
  changed(): void;
  endpoints(): EndpointView[];
  devices(): Interface[];
  /** The hooks that there should be. */
  hooks(): Attachment[];
  /** How often a hook had to be attached again because someone had detached it. */
  reattached(): Readonly<Record<Hook, number>>;
  addEndpoint(request: EndpointRequest): Promise<{ endpoint: EndpointView; created: boolean }>;
  deleteEndpoint(name: string): Promise<EndpointView>;
  /**
   * Goes on with another configuration, and with other programs when there are some: on every
   * hook the new one takes over in place. Rejects after going back to what was before.
   */
  reconfigure(config: Config, programs?: Programs): Promise<void>;
  /** Why the datapath is not what it should be; undefined when it is. */
  problem(): string | undefined;
  /** What the last plan had to leave out. */
  warnings(): string[];
}

/** Every change runs after the one before it. */
export function createNode(options: NodeOptions): NodeKeeper {
  const { store, onReconciled, onApplied, logger } = options;
  const serial = createSerial();
  let { config, context } = options;
  const reattached = Object.fromEntries(HOOKS.map((hook) => [hook, 0])) as Record<Hook, number>;
  let applied: Applied | undefined;
  let network: NetworkState | undefined;
  let failure: string | undefined;
  let retry: NodeJS.Timeout | undefined;
  let queued = false;
  let closed = false;

  async function apply(state: NetworkState): Promise<void> {
    const { bpffs, programs } = context;
    const plan = planFor({ config, store, bpffs, state, known: options.known, before: applied });
    const lost = lostNow();
    const begun = performance.now();
    await reconcile(plan, context).finally(() => {
      onReconciled((performance.now() - begun) / 1000);
    });
    for (const slot of lost) tellLost(slot);
    logNew(plan, applied?.plan, logger);
    applied = { plan, programs, devices: config.node.devices };
    network = state;
    onApplied(config, plan, state);
  }

  /** A slot whose interface went with it is not attached now either. */
  function tellLost({ ifindex, hook, family }: Slot): void {
    if (!readSlot(context.bpffs, { ifindex, hook, family })?.attached) return;
    reattached[hook]++;
    logger.warn({ ifindex, hook, family }, 'someone detached a hook; it is attached again');
  }

  async function refresh(): Promise<void> {
    try {
      await apply(await readNetwork());
      failure = undefined;
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
      throw error;
    }
  }

  /** A refresh that has not begun yet sees this change too. */
  function changed(): void {
    if (closed || queued) return;
    queued = true;
    serial(() => {
      queued = false;
      return refresh();
    }).catch(tryAgain);
  }

  function tryAgain(error: unknown): void {
    logger.error({ err: error }, 'the network changed and could not be followed');
    clearTimeout(retry);
    if (!closed) retry = setTimeout(changed, RETRY_MS);
  }

  function lostNow(): Slot[] {
    if (!applied) return [];
    return lostSlots({ ...context, programs: applied.programs }, applied.plan);
  }

  /** Looks again after two seconds, or later where looking would take over 1 % of the time. */
  async function check(): Promise<void> {
    const begun = performance.now();
    let lost: Slot[] = [];
    try {
      if (failure === undefined) lost = lostNow();
    } finally {
      const spent = performance.now() - begun;
      if (!closed) watch = setTimeout(startCheck, Math.max(CHECK_MS, 100 * spent));
    }
    if (lost.length > 0) await refresh();
  }

  function startCheck(): void {
    serial(check).catch(tryAgain);
  }
  let watch = setTimeout(startCheck, CHECK_MS);

  async function add(request: EndpointRequest) {
    const state = await readNetwork();
    checkRequest(request, state, applied?.plan.devices ?? []);
    const there = store.get(request.name);
    const endpoint = store.add(request);
    try {
      await apply(state);
    } catch (error) {
      if (!there) store.remove(endpoint.name);
      changed();
      throw error;
    }
    return { endpoint: view(endpoint, state, applied), created: there === undefined };
  }

  async function remove(name: string) {
    const endpoint = store.remove(name);
    try {
      const state = await readNetwork();
      await apply(state);
      return view(endpoint, state, applied);
    } catch (error) {
      changed();
      throw error;
    }
  }

  async function reconfigure(next: Config, programs = context.programs) {
    const before = { config, context };
    const takeBack = store.configure(next.endpoints);
    config = next;
    context = { ...context, programs };
    try {
      await refresh();
    } catch (error) {
      ({ config, context } = before);
      takeBack();
      await refresh().catch(changed);
      throw error;
    }
  }

  return {
    refresh: () => serial(refresh),
    changed,
    endpoints: () => store.list().map((endpoint) => view(endpoint, network, applied)),
    devices: () => applied?.plan.devices ?? [],
    hooks: () => hooksOf(context, applied?.plan),
    reattached: () => reattached,
    addEndpoint: (request) => serial(() => add(request)),
    deleteEndpoint: (name) => serial(() => remove(name)),
    reconfigure: (next, programs) => serial(() => reconfigure(next, programs)),
    problem: () => failure,
    warnings: () => applied?.plan.problems ?? [],
    async [Symbol.asyncDispose]() {
      closed = true;
      clearTimeout(retry);
      clearTimeout(watch);
      await serial(() => {});
    },
  };
}

function checkRequest(
  { name, interface: link, addresses }: EndpointRequest,
  network: NetworkState,
  devices: Interface[],
): void {
  const reason = unfit(requireInterface(network, link), devices);
  if (reason) {
    throw new SekishoError('E_CONFLICT', `interface ${link} ${reason}`, {
      hint: "name the host side of the endpoint's link",
    });
  }
  const own = addresses.find((address) => hasAddress(network, parseAddress(address).bytes));
  if (own === undefined) return;
  throw new SekishoError('E_CONFLICT', `endpoint ${name}: ${own} belongs to the node`, {
    hint: 'an endpoint has addresses of its own',
  });
}

function view(
  endpoint: StoredEndpoint,
  network: NetworkState | undefined,
  applied: Applied | undefined,
): EndpointView {
  const link = network && standsFor(network, applied?.plan.names, endpoint.interface);
  if (!link) return { ...endpoint, ifindex: 0, state: 'no_interface' };
  const isUnfit = unfit(link, applied?.plan.devices ?? []) !== undefined;
  return { ...endpoint, ifindex: link.ifindex, state: isUnfit ? 'unfit' : 'ready' };
}

/** Of every slot of the plan, also where nothing is left. */
function hooksOf({ bpffs, attach }: ReconcileContext, plan: Plan | undefined): Attachment[] {
  const missing = { attach, programId: 0, attached: false };
  const slots = plan ? plannedSlots(plan) : [];
  return slots.map((slot) => readSlot(bpffs, slot) ?? { ...slot, ...missing });
}

function logNew(next: Plan, before: Plan | undefined, logger: Logger): void {
  const known = new Set(before?.problems);
  for (const problem of next.problems) {
    if (!known.has(problem)) logger.warn({ problem }, 'not everything can be applied at present');
  }
  const names = (plan?: Plan) => plan?.devices.map((link) => link.name).join();
  if (names(next) === names(before)) return;
  logger.info({ devices: next.devices.map((link) => link.name) }, 'north-south devices');
}
