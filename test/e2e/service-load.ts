import assert from 'node:assert/strict';
import type { Visitor, VisitTarget } from '../lib/peer/visits.ts';
import type { Peer } from '../lib/peer.ts';
import { type Addresses, FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { type Course, outcomes } from './service-course.ts';
import { applyServices, backendOf, reloadServices, type Stage } from './service-stage.ts';

const PORT = 80;
/** Local ports of the visitors: below those that the kernel gives out, and new in every load. */
const PORTS = { first: 10_000, target: 100, loads: 36 };

/** Where backends are reached in one way each, from a pod and from the world. */
const ADDRESSES = {
  cluster: { ipv4: '10.96.0.10', ipv6: 'fd00:96::10' },
  snat: { ipv4: '198.51.100.10', ipv6: '2001:db8:9::10' },
  dsr: { ipv4: '198.51.100.11', ipv6: '2001:db8:9::11' },
} satisfies Record<string, Addresses>;

type Path = keyof typeof ADDRESSES;

export const PATHS = Object.keys(ADDRESSES) as Path[];
export const TARGETS = PATHS.flatMap((path) => FAMILIES.map((family) => targetOf(path, family)));

/** What is said of backends by name; null is not there, and who is not named is active. */
export type Plan = Record<string, { state?: string; weight?: number } | null>;

/** Services on every path whose backends are the stage's servers, and who visits them. */
export interface Load {
  stage: Stage;
  /** Of the servers. */
  names: string[];
  /** So many were started. */
  begun: number;
}

export async function createLoad(stage: Stage): Promise<Load> {
  const load = { stage, names: stage.servers.map(({ name }) => name), begun: 0 };
  await change(load, {});
  return load;
}

/** A change under load. It is over when the visitors have come round, and `enough`. */
export async function through(
  load: Load,
  plan: Plan,
  enough: (after: number) => Promise<unknown> = async () => {},
): Promise<Course> {
  const before = await start(load);
  await cameRound(load);
  const changing = await mark(load);
  await change(load, plan);
  const after = await mark(load);
  await cameRound(load);
  await enough(after);
  return { visitors: await stop(load), before, changing, after };
}

/** A pod's services are the configuration's; the world's are applied. */
export async function change({ stage }: Load, plan: Plan): Promise<void> {
  const of = (paths: readonly Path[]) =>
    paths.flatMap((path) => FAMILIES.map((family) => service(stage, path, family, plan)));
  await reloadServices(stage.first, of(['cluster']));
  await applyServices(stage.first, of(['snat', 'dsr']));
}

function service({ servers }: Stage, path: Path, family: Family, plan: Plan): object {
  const address = ADDRESSES[path][family];
  const there = servers.filter(({ name }) => plan[name] !== null);
  return {
    name: `${path}-${family}`,
    type: path === 'cluster' ? 'ClusterIP' : 'LoadBalancer',
    frontends: ['TCP', 'UDP'].map((protocol) => ({ address, port: PORT, protocol })),
    backends: there.map((server) => backendOf(server, family, plan[server.name] ?? {})),
    forwarding: path === 'dsr' ? 'dsr' : 'snat',
  };
}

function targetOf(path: Path, family: Family): VisitTarget {
  const host = ADDRESSES[path][family];
  return { target: `${path}-${family}`, host, port: PORT, localPort: 0 };
}

/** Who visits a target. */
export function clientOf({ client, world }: Stage, { target }: VisitTarget): Peer {
  return target.startsWith('cluster') ? client : world;
}

/** Begins an epoch with the first questions of new visitors; answers with its number. */
export async function start(load: Load): Promise<number> {
  const { stage } = load;
  const base = PORTS.first + (load.begun++ % PORTS.loads) * TARGETS.length * PORTS.target;
  const targets = TARGETS.map((target, i) => ({ ...target, localPort: base + i * PORTS.target }));
  const [epoch, same] = await both(load, (client) =>
    client.startVisits({ targets: targets.filter((target) => clientOf(stage, target) === client) }),
  );
  assert.equal(epoch, same);
  return epoch;
}

/** Begins an epoch; answers with its number. */
export async function mark(load: Load): Promise<number> {
  return (await both(load, (client) => client.markVisits()))[0];
}

/** Resolves when the visitors have asked since, and had their answers. */
export async function cameRound(load: Load): Promise<void> {
  await both(load, (client) => client.visitsCameRound());
}

export async function stop(load: Load): Promise<Visitor[]> {
  return (await both(load, (client) => client.stopVisits())).flat();
}

/** Resolves once all of these were given new connections in the epoch, at every target. */
export function newcomersAt(load: Load, epoch: number, names: readonly string[]): Promise<unknown> {
  return until(`new connections at ${names}`, async () => {
    const visitors = await soFar(load);
    return TARGETS.every(({ target }) => {
      const { answered } = outcomes(visitors, { kind: 'short', target }, epoch);
      return names.every((name) => answered.has(name));
    });
  });
}

export async function soFar(load: Load): Promise<Visitor[]> {
  return (await both(load, (client) => client.visitsSoFar())).flat();
}

/** The clients are always called together, so that they count their epochs alike. */
function both<T>({ stage }: Load, call: (client: Peer) => Promise<T>): Promise<[T, T]> {
  return Promise.all([call(stage.client), call(stage.world)]);
}
