import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sekisho, startAgent } from '../../test/lib/daemon.ts';
import { type Peer, startPeer } from '../../test/lib/peer.ts';
import { bareScene, nth, type Scene } from '../../test/lib/scene.ts';
import type { Node, Pod } from '../../test/lib/topology.ts';

export const ADDRESS = '172.190.0.17';
export const PORT = 80;
const POD_PORT = 8000;

type State = 'active' | 'terminating';

/** A pod that answers for the service. */
export interface Server {
  pod: Pod;
  node: Node;
  peer: Peer;
  /** As the service's file has it; undefined once it was taken out. */
  state: State | undefined;
}

/** A client in the world, two nodes that know each other, and three pods on them. */
export interface Web extends AsyncDisposable {
  scene: Scene;
  /** Where packets for the service's address are sent to, and the other node. */
  middle: Node;
  other: Node;
  /** Address of the client. */
  client: string;
  servers: Server[];
  /** Text of the service's file, as it is now. */
  file(): string;
  /** Writes the file and applies it; what that printed. */
  apply(): Promise<string>;
}

export async function buildWeb(): Promise<Web> {
  const scene = await bareScene({ nodes: 2, pods: 2 });
  try {
    return await settle(scene);
  } catch (error) {
    await scene[Symbol.asyncDispose]();
    throw error;
  }
}

async function settle(scene: Scene): Promise<Web> {
  const { topo } = scene;
  const [middle, other] = [nth(topo.nodes), nth(topo.nodes, 1)];
  await Promise.all([startNode(scene, middle, other), startNode(scene, other, middle)]);
  await topo.world.ip(`route add ${ADDRESS}/32 via ${middle.addresses.ipv4}`);
  const places = [
    { node: middle, pod: nth(middle.pods) },
    ...other.pods.map((pod) => ({ node: other, pod })),
  ];
  const servers = await Promise.all(places.map((place) => serve(scene, place)));
  const path = join(topo.directory, 'web.yaml');
  return {
    scene,
    middle,
    other,
    client: nth(topo.worldAddresses).ipv4,
    servers,
    file: () => describe(servers),
    async apply() {
      writeFileSync(path, describe(servers));
      const { code, stdout, stderr } = await sekisho(topo, 'service', 'apply', '-f', path);
      if (code !== 0) throw new Error(`service apply: ${stderr}`);
      return stdout;
    },
    [Symbol.asyncDispose]: () => scene[Symbol.asyncDispose](),
  };
}

/** A daemon on the node, which knows the other one. */
async function startNode({ topo }: Scene, node: Node, { name, addresses, podCIDRs }: Node) {
  await node.ns.ip(`route add ${podCIDRs.ipv4} via ${addresses.ipv4}`);
  const peer = { name, address: addresses.ipv4, podCIDRs: Object.values(podCIDRs) };
  await startAgent(topo, { cluster: { nodes: [peer] } }, node);
}

async function serve({ topo }: Scene, place: { node: Node; pod: Pod }): Promise<Server> {
  const peer = topo.use(await startPeer(place.pod.ns));
  await peer.listen({ host: place.pod.addresses.ipv4, port: POD_PORT });
  return { ...place, peer, state: 'active' };
}

/** As one would write it by hand. */
function describe(servers: readonly Server[]): string {
  const backends = servers.filter(({ state }) => state !== undefined).map(backendLine);
  return [
    'name: web',
    'type: LoadBalancer',
    `frontends: [{ address: ${ADDRESS}, port: ${PORT} }]`,
    'forwarding: dsr',
    'backends:',
    ...backends,
    '',
  ].join('\n');
}

function backendLine({ pod, state }: Server): string {
  const draining = state === 'terminating' ? ', state: terminating' : '';
  return `  - { address: ${pod.addresses.ipv4}, port: ${POD_PORT}${draining} }`;
}
