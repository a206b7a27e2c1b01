import type { Config } from '../config/schema.ts';
import { listAttachments, type Programs } from '../engine/attach.ts';
import { readNetwork } from '../engine/ip-tool.ts';
import type { Logger } from '../engine/logger.ts';
import {
  findInterface,
  hasAddress,
  type Interface,
  type NetworkState,
  requireInterface,
  selectDevices,
} from '../engine/network.ts';
import { makePlan, type Plan, unfit } from '../engine/plan.ts';
import { type ReconcileContext, reconcile } from '../engine/reconcile.ts';
import { createSerial } from '../engine/serial.ts';
import { SekishoError } from '../lib/errors.ts';
import { parseAddress } from '../lib/ip.ts';
import type { EndpointView } from './api.ts';
import type { EndpointRequest, EndpointStore, StoredEndpoint } from './endpoint-store.ts';

const RETRY_MS = 5000;

export interface NodeOptions {
  config: Config;
  store: EndpointStore;
  context: ReconcileContext;
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
export function createNode({ store, logger, ...options }: NodeOptions): NodeKeeper {
  const serial = createSerial();
  let { config, context } = options;
  let plan: Plan | undefined;
  let network: NetworkState | undefined;
  let failure: string | undefined;
  let retry: NodeJS.Timeout | undefined;
  let closed = false;

  async function apply(state: NetworkState): Promise<void> {
    const next = planFor(config, store, context.bpffs, state);
    await reconcile(next, context);
    logNew(next, plan, logger);
    plan = next;
    network = state;
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

  function changed(): void {
    if (closed) return;
    serial(refresh).catch((error: unknown) => {
      logger.error({ err: error }, 'the network changed and could not be followed');
      clearTimeout(retry);
      if (!closed) retry = setTimeout(changed, RETRY_MS);
    });
  }

  async function add(request: EndpointRequest) {
    const state = await readNetwork();
    checkRequest(request, state, plan?.devices ?? []);
    const there = store.get(request.name);
    const endpoint = store.add(request);
    try {
      await apply(state);
    } catch (error) {
      if (!there) store.remove(endpoint.name);
      changed();
      throw error;
    }
    return { endpoint: view(endpoint, state), created: there === undefined };
  }

  async function remove(name: string) {
    const endpoint = store.remove(name);
    const state = await readNetwork();
    await apply(state);
    return view(endpoint, state);
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
    endpoints: () => store.list().map((endpoint) => view(endpoint, network)),
    devices: () => plan?.devices ?? [],
    addEndpoint: (request) => serial(() => add(request)),
    deleteEndpoint: (name) => serial(() => remove(name)),
    reconfigure: (next, programs) => serial(() => reconfigure(next, programs)),
    problem: () => failure,
    warnings: () => plan?.problems ?? [],
    async [Symbol.asyncDispose]() {
      closed = true;
      clearTimeout(retry);
      await serial(() => {});
    },
  };
}

function planFor(config: Config, store: EndpointStore, bpffs: string, network: NetworkState): Plan {
  const { node, masquerade, cluster } = config;
  return makePlan({
    network,
    devices: currentDevices(network, node.devices, bpffs),
    wanted: node.devices,
    endpoints: store.list(),
    prefixes: { exclude: masquerade.exclude, podCIDRs: node.podCIDRs, nodes: cluster.nodes },
    egress: masquerade.addresses,
    ports: masquerade.ports,
  });
}

/**
 * Configured devices that are there. Without any configured, those of the default routes, and
 * those attached already: a default route that is away for a moment must not let packets out
 * untranslated.
 */
function currentDevices(
  network: NetworkState,
  configured: readonly string[],
  bpffs: string,
): Interface[] {
  if (configured.length > 0) {
    const present = configured.filter((name) => findInterface(network, name));
    return selectDevices({ ...network, defaultDevices: present }, []);
  }
  const attached = new Set(
    listAttachments(bpffs)
      .filter((link) => link.attached && link.hook === 'to_netdev')
      .map((link) => link.ifindex),
  );
  const chosen = new Set(selectDevices(network, []).map((link) => link.ifindex));
  return network.interfaces.filter(({ ifindex }) => chosen.has(ifindex) || attached.has(ifindex));
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

function view(endpoint: StoredEndpoint, network: NetworkState | undefined): EndpointView {
  const link = network && findInterface(network, endpoint.interface);
  return { ...endpoint, ifindex: link?.ifindex ?? 0, state: link ? 'ready' : 'no_interface' };
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
