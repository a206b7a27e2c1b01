import { type Agent, type Settings, startAgent } from '../lib/daemon.ts';
import { nth, type Scene } from '../lib/scene.ts';
import { FAMILIES, type Node } from '../lib/topology.ts';

/** Starts the daemons of a scene's two nodes; each knows the other, and the way to its pods. */
export function startNodes(
  { topo }: Scene,
  settings: (node: Node) => Settings = () => ({}),
): Promise<[Agent, Agent]> {
  const [here, there] = [nth(topo.nodes), nth(topo.nodes, 1)];
  const start = async (node: Node, other: Node) => {
    const { name, addresses, podCIDRs } = other;
    await node.ns.ip(
      ...FAMILIES.map((family) => `route add ${podCIDRs[family]} via ${addresses[family]}`),
    );
    const nodes = [{ name, address: addresses.ipv4, podCIDRs: Object.values(podCIDRs) }];
    return startAgent(topo, { cluster: { nodes }, ...settings(node) }, node);
  };
  return Promise.all([start(here, there), start(there, here)]);
}
