import { type Peer, startPeer } from '../lib/peer.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { type Addresses, FAMILIES, type Family, type Node } from '../lib/topology.ts';
import { startNodes } from './two-nodes.ts';

/** Pods of the first node, one of the second, and the world. */
export type Place = 'pod' | 'neighbour' | 'elsewhere' | 'world';

/** How a connection to a service gets to its backend. */
export interface Path {
  client: 'pod' | 'world';
  type: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  /** Of the frontend, the same in both protocols. */
  port: number;
  /** `pod`: the client itself. */
  backend: Place;
  forwarding?: 'dsr';
}

const fromPod = (port: number, backend: Place): Path => ({
  client: 'pod',
  type: 'ClusterIP',
  port,
  backend,
});
const fromWorld = (type: Path['type'], port: number, backend: Place): Path => ({
  client: 'world',
  type,
  port,
  backend,
});

export const PATHS = {
  'cluster address, backend here': fromPod(80, 'neighbour'),
  'cluster address, backend elsewhere': fromPod(81, 'elsewhere'),
  'cluster address, backend in the world': fromPod(82, 'world'),
  hairpin: fromPod(83, 'pod'),
  'node port, backend here': fromWorld('NodePort', 30_001, 'neighbour'),
  'load balancer, backend here': fromWorld('LoadBalancer', 84, 'neighbour'),
  'node port, SNAT': fromWorld('NodePort', 30_002, 'elsewhere'),
  'load balancer, DSR': { ...fromWorld('LoadBalancer', 85, 'elsewhere'), forwarding: 'dsr' },
} satisfies Record<string, Path>;

export type PathName = keyof typeof PATHS;

/** Two backends of every service, at one address: which one has a connection shows. */
export const BACKEND_PORTS = [8080, 8081] as const;
export const CLUSTER: Addresses = { ipv4: '10.96.0.10', ipv6: 'fd00:96::10' };
const BALANCER: Addresses = { ipv4: '198.51.100.10', ipv6: '2001:db8:9::10' };
/** Nothing of UDP expires while the tests come round to it. */
const TIMEOUTS = { any: '1h', serviceAny: '1h' };

/** Two nodes with the same services, one for each path and family, whose daemons are gone; and peers everywhere. */
export interface ServedScene extends Scene {
  here: Node;
  there: Node;
  /** Who serves at a place. */
  server(place: Place): Peer;
  /** Who opens connections to services. */
  client(place: Path['client']): Peer;
  addressOf(role: 'client' | 'backend', place: Place, family: Family): string;
  frontendOf(path: Path, family: Family): string;
}

export async function servedScene(datapath: object): Promise<ServedScene> {
  const scene = await bareScene({ nodes: 2, pods: 2 });
  try {
    return await serve(scene, datapath);
  } catch (error) {
    await scene[Symbol.asyncDispose]();
    throw error;
  }
}

async function serve(scene: Scene, datapath: object): Promise<ServedScene> {
  const { topo } = scene;
  const [here, there] = [nth(topo.nodes), nth(topo.nodes, 1)];
  const [self, elsewhere] = [
    topo.use(await startPeer(nth(here.pods).ns)),
    topo.use(await startPeer(nth(there.pods).ns)),
  ];
  const { world } = scene;
  const servers = { pod: self, neighbour: nth(scene.pods, 1), elsewhere, world };
  const [pod, neighbour] = [nth(here.pods), nth(here.pods, 1)];
  const pods = { pod, neighbour, elsewhere: nth(there.pods) };
  const served: ServedScene = {
    ...scene,
    here,
    there,
    server: (place) => servers[place],
    client: (place) => (place === 'pod' ? nth(scene.pods) : world),
    addressOf(role, place, family) {
      if (place !== 'world') return pods[place].addresses[family];
      return role === 'client' ? topo.gateway[family] : nth(topo.worldAddresses)[family];
    },
    frontendOf({ type }, family) {
      if (type === 'NodePort') return here.addresses[family];
      return (type === 'ClusterIP' ? CLUSTER : BALANCER)[family];
    },
  };
  const services = FAMILIES.flatMap((family) =>
    Object.values(PATHS).map((path) => serviceOf(served, path, family)),
  );
  /* a node is known by its IPv4 address only */
  const masquerade = { exclude: [here, there].map(({ addresses }) => addresses.ipv6) };
  const conntrack = { timeouts: TIMEOUTS };
  const agents = await startNodes(scene, () => ({ datapath, services, masquerade, conntrack }));
  // Their passes bring lost halves back as well, and one comes when an answer is held back.
  await Promise.all(agents.map((agent) => agent.stop()));
  await topo.world.ip(
    `route add ${BALANCER.ipv4} via ${here.addresses.ipv4}`,
    `route add ${BALANCER.ipv6} via ${here.addresses.ipv6} dev eth0`,
  );
  for (const family of FAMILIES) await listen(served, family);
  return served;
}

function serviceOf(served: ServedScene, path: Path, family: Family) {
  const { type, port, backend, forwarding = 'snat' } = path;
  const address = (type === 'LoadBalancer' ? BALANCER : CLUSTER)[family];
  const host = served.addressOf('backend', backend, family);
  return {
    name: `port-${port}-${family}`,
    type,
    frontends: ['TCP', 'UDP'].map((protocol) => ({ address, port, protocol })),
    ...(type === 'NodePort' && { nodePort: port }),
    backends: BACKEND_PORTS.map((port) => ({ address: host, port })),
    forwarding,
  };
}

async function listen(served: ServedScene, family: Family): Promise<void> {
  for (const place of ['pod', 'neighbour', 'elsewhere', 'world'] as const) {
    const host = served.addressOf('backend', place, family);
    for (const port of BACKEND_PORTS) {
      await served.server(place).listen({ host, port });
      await served.server(place).udpListen({ host, port });
    }
  }
}
