import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { type Agent, configure, type Settings, sekishoOn, startAgent } from '../lib/daemon.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { FAMILIES, type Family, type Node, type Pod, type Topology } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

/** Every server says its name on this port, by TCP and UDP. */
export const SERVED = 8000;
/** Addresses that the world sends to the first node. */
const PUBLIC = { ipv4: '198.51.100.0/24', ipv6: '2001:db8:9::/64' };

/** A pod that answers for services. */
export interface Server {
  name: string;
  pod: Pod;
  peer: Peer;
}

/** A node, and its daemon as it was started last. */
export interface Managed {
  node: Node;
  agent: Agent;
  /** Of the configuration, beside the services. */
  settings: Settings;
}

/**
 * Two nodes that know each other: a pod that is a client and one that is a server on the first, two
 * servers on the second, and clients in the world.
 */
export interface Stage extends AsyncDisposable {
  scene: Scene;
  first: Managed;
  second: Managed;
  servers: Server[];
  world: Peer;
  client: Peer;
}

/** Services as their file has them. */
export type Services = readonly object[];

export async function openStage(settings: Settings = {}, worldAddresses = 1): Promise<Stage> {
  const scene = await bareScene({ nodes: 2, pods: 2, worldAddresses });
  try {
    return await furnish(scene, settings);
  } catch (error) {
    await scene[Symbol.asyncDispose]();
    throw error;
  }
}

async function furnish(scene: Scene, settings: Settings): Promise<Stage> {
  const { topo, world, pods } = scene;
  const [here, there] = [nth(topo.nodes), nth(topo.nodes, 1)];
  const [first, second] = await Promise.all([
    startNode(topo, here, there, settings),
    startNode(topo, there, here, settings),
  ]);
  await routePublic(topo, here);
  const places = [
    { pod: nth(here.pods, 1), peer: nth(pods, 1) },
    ...(await Promise.all(
      there.pods.map(async (pod) => ({ pod, peer: topo.use(await startPeer(pod.ns)) })),
    )),
  ];
  const servers = await Promise.all(places.map(serve));
  return {
    ...{ scene, first, second, servers, world, client: nth(pods) },
    [Symbol.asyncDispose]: () => scene[Symbol.asyncDispose](),
  };
}

/** Sends what is for the public addresses to this node from now on. */
export async function routePublic({ world }: Topology, { addresses }: Node): Promise<void> {
  await world.ip(
    ...FAMILIES.map(
      (family) => `route replace ${PUBLIC[family]} via ${addresses[family]} dev eth0`,
    ),
  );
}

async function startNode(
  topo: Topology,
  node: Node,
  { name, addresses, podCIDRs }: Node,
  more: Settings,
): Promise<Managed> {
  const routes = FAMILIES.map((family) => `route add ${podCIDRs[family]} via ${addresses[family]}`);
  await node.ns.ip(...routes);
  const other = { name, address: addresses.ipv4, podCIDRs: Object.values(podCIDRs) };
  const settings = { cluster: { nodes: [other] }, ...more };
  return { node, settings, agent: await startAgent(topo, settings, node) };
}

async function serve({ pod, peer }: Omit<Server, 'name'>): Promise<Server> {
  const { name } = pod;
  for (const family of FAMILIES) {
    await peer.nameServe({ host: pod.addresses[family], port: SERVED, name });
  }
  return { name, pod, peer };
}

/** One server as a backend. */
export function backendOf({ pod }: Server, family: Family, more: object = {}): object {
  return { address: pod.addresses[family], port: SERVED, ...more };
}

/** `sekisho service apply`, which must accept all of them. */
export async function applyServices({ node, agent }: Managed, services: Services): Promise<void> {
  const file = join(node.runDir, '..', 'services.yaml');
  writeFileSync(file, stringify({ services }));
  const { code, stderr } = await sekishoOn(node, agent.configFile, 'service', 'apply', '-f', file);
  assert.equal(code, 0, stderr);
}

/** Writes them into the configuration, and has the daemon read it. */
export async function reloadServices(managed: Managed, services: Services): Promise<void> {
  const { node, agent, settings } = managed;
  const said = (text: string) => agent.logs.filter(({ msg }) => msg.startsWith(text)).length;
  const before = said('configuration re');
  configure(node, { ...settings, services });
  agent.signal('SIGHUP');
  await until('the reload', () => said('configuration re') > before, { timeout: 60_000 });
  for (const failure of ['configuration refused', 'services could not', 'service rejected']) {
    assert.equal(said(failure), 0, failure);
  }
}
