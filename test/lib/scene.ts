import { type Agent, type Settings, startAgent } from './daemon.ts';
import { type Peer, startPeer } from './peer.ts';
import { type Topology, type TopologyOptions, topology } from './topology.ts';

/** A topology with a program in every namespace, and the daemon in front. */
export interface Scene extends AsyncDisposable {
  topo: Topology;
  pods: Peer[];
  node: Peer;
  world: Peer;
}

export interface ManagedScene extends Scene {
  agent: Agent;
}

/** Namespaces and peers without any translation between them. */
export async function bareScene(options: TopologyOptions = {}): Promise<Scene> {
  const topo = await topology(options);
  try {
    const start = async (ns: Topology['world']) => topo.use(await startPeer(ns));
    const [node, world, ...pods] = await Promise.all([
      start(topo.node),
      start(topo.world),
      ...topo.pods.map((pod) => start(pod.ns)),
    ]);
    return { topo, node, world, pods, [Symbol.asyncDispose]: () => topo[Symbol.asyncDispose]() };
  } catch (error) {
    await topo[Symbol.asyncDispose]();
    throw error;
  }
}

/** The same with a running daemon. `settings` are sections of its configuration. */
export async function managedScene(
  options: TopologyOptions & { settings?: Settings } = {},
): Promise<ManagedScene> {
  const scene = await bareScene(options);
  try {
    return { ...scene, agent: await startAgent(scene.topo, options.settings) };
  } catch (error) {
    await scene[Symbol.asyncDispose]();
    throw error;
  }
}

/** The element, or a failure that says which one is missing. */
export function nth<T>(list: readonly T[], index = 0): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no element ${index} in a list of ${list.length}`);
  return item;
}
