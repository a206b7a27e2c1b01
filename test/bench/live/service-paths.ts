import { nth } from '../../lib/scene.ts';
import { type Node, type Pod, type Topology, topology } from '../../lib/topology.ts';
import { fixNeighbours } from './neighbours.ts';
import type { Ends } from './variant.ts';

const BACKEND_PORT = 8000;
const NODE_PORT = 30_001;

/** One way from a client to a backend through a service's frontend. */
export interface ServicePath {
  key: string;
  title: string;
  /** A pod of the first node, or somebody in the world. */
  client: 'pod' | 'world';
  /** On the first node, or on another. */
  backend: 'here' | 'elsewhere';
  /** The first node's own address when left out. */
  address?: string;
  port: number;
  /** What Sekisho's configuration says of the service beside frontend and backend. */
  service: { type: string; forwarding?: string };
}

export const CLUSTER_IP: ServicePath = {
  ...{ key: 'cluster-ip', title: 'ClusterIP', client: 'pod', backend: 'here' },
  ...{ address: '10.96.0.10', port: 80, service: { type: 'ClusterIP' } },
};
export const CLUSTER_IP_ELSEWHERE: ServicePath = {
  ...CLUSTER_IP,
  ...{ key: 'cluster-ip-elsewhere', title: 'ClusterIP, backend elsewhere', backend: 'elsewhere' },
};
export const NODE_PORT_SNAT: ServicePath = {
  ...{ key: 'node-port', title: 'NodePort, backend elsewhere, SNAT' },
  ...{ client: 'world', backend: 'elsewhere', port: NODE_PORT, service: { type: 'NodePort' } },
};
export const DSR: ServicePath = {
  ...{ key: 'dsr', title: 'direct server return', client: 'world', backend: 'elsewhere' },
  ...{ address: '198.51.100.10', port: 80 },
  service: { type: 'LoadBalancer', forwarding: 'dsr' },
};

/** Pods, nodes and world for one path, and who is who; nothing balances yet. */
export interface Place {
  topo: Topology;
  path: ServicePath;
  frontend: { address: string; port: number };
  backend: { pod: Pod; address: string; port: number };
  /** As whom the client connects. */
  client: string;
  ends: Ends;
}

export async function buildPlace(path: ServicePath): Promise<Place> {
  const far = path.backend === 'elsewhere';
  const topo = await topology(far ? { nodes: 2 } : { pods: 2 });
  const pod = far ? nth(nth(topo.nodes, 1).pods) : nth(topo.pods, 1);
  const address = path.address ?? nth(topo.nodes).addresses.ipv4;
  const client = nth(topo.pods);
  const inside = path.client === 'pod';
  return {
    topo,
    path,
    frontend: { address, port: path.port },
    backend: { pod, address: pod.addresses.ipv4, port: BACKEND_PORT },
    client: (inside ? client.addresses : topo.gateway).ipv4,
    ends: {
      client: inside ? client.ns : topo.world,
      server: pod.ns,
      host: address,
      port: path.port,
      serverPort: BACKEND_PORT,
    },
  };
}

/** The nodes know each other's pods, and the world whom to ask for the service's address. */
export async function setRoutes({ topo, path }: Place): Promise<void> {
  await fixNeighbours(topo);
  for (const node of topo.nodes) {
    await node.ns.ip(...othersThan(node, topo).map(routeToPods));
  }
  const first = nth(topo.nodes).addresses.ipv4;
  if (path.client === 'world' && path.address) {
    await topo.world.ip(`route add ${path.address} via ${first}`);
  }
}

export function othersThan(node: Node, { nodes }: Topology): Node[] {
  return nodes.filter(({ name }) => name !== node.name);
}

function routeToPods({ podCIDRs, addresses }: Node): string {
  return `route add ${podCIDRs.ipv4} via ${addresses.ipv4}`;
}
