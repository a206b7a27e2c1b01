import type { Topology } from '../../lib/topology.ts';

/** Neighbours that are known and never expire: no run waits for one. */
export async function fixNeighbours(topo: Topology): Promise<void> {
  const { gateway, nodes, world, worldMac } = topo;
  const onUplink = (address: string, mac: string) =>
    `neigh replace ${address} lladdr ${mac} dev eth0 nud permanent`;
  for (const { ns, pods, mac } of nodes) {
    const others = nodes.filter((node) => node.mac !== mac);
    await ns.ip(
      onUplink(gateway.ipv4, worldMac),
      ...others.map((node) => onUplink(node.addresses.ipv4, node.mac)),
      ...pods.map(
        (pod) =>
          `neigh replace ${pod.addresses.ipv4} lladdr ${pod.mac} dev ${pod.interface} nud permanent`,
      ),
    );
  }
  await world.ip(...nodes.map(({ addresses, mac }) => onUplink(addresses.ipv4, mac)));
}
