import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startAgent } from '../lib/daemon.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Family, type Node } from '../lib/topology.ts';

const PORT = 8080;
const VIP = { ipv4: '10.96.0.10', ipv6: 'fd00:96::10' };
/** Frontend ports of the cluster address, and node ports, by who answers. */
const PORTS = { neighbour: 80, elsewhere: 81, self: 82, world: 83 };
const NODE_PORTS = { here: 30001, elsewhere: 30002 };

for (const routing of ['fast', 'stack'] as const) {
  test(`every path of a service carries connections (${routing} routing)`, async (t) => {
    await using scene = await bareScene({ nodes: 2, pods: 2 });
    const { topo } = scene;
    const [here, there] = [nth(topo.nodes), nth(topo.nodes, 1)];
    for (const [node, other] of [
      [here, there],
      [there, here],
    ] as const) {
      await node.ns.ip(
        ...FAMILIES.map(
          (family) => `route add ${other.podCIDRs[family]} via ${other.addresses[family]}`,
        ),
      );
      const { name, addresses, podCIDRs } = other;
      const nodes = [{ name, address: addresses.ipv4, podCIDRs: Object.values(podCIDRs) }];
      const services = node === here ? FAMILIES.flatMap((family) => described(family)) : [];
      await startAgent(topo, { cluster: { nodes }, datapath: { routing }, services }, node);
    }
    const [pod, neighbour] = [nth(scene.pods), nth(scene.pods, 1)];
    const remote = topo.use(await startPeer(nth(there.pods).ns));

    function described(family: Family) {
      const at = (address: string) => [{ address, port: PORT }];
      const places = {
        neighbour: nth(here.pods, 1).addresses[family],
        elsewhere: nth(there.pods).addresses[family],
        self: nth(here.pods).addresses[family],
        world: nth(topo.worldAddresses)[family],
      };
      const named = (name: string) => `${name}-${family}`;
      return [
        ...(['neighbour', 'elsewhere', 'self', 'world'] as const).map((name) => ({
          name: named(name),
          type: 'ClusterIP',
          frontends: [{ address: VIP[family], port: PORTS[name] }],
          backends: at(places[name]),
        })),
        ...(['here', 'elsewhere'] as const).map((name) => ({
          name: named(`port-${name}`),
          type: 'NodePort',
          frontends: [{ address: VIP[family], port: NODE_PORTS[name] }],
          nodePort: NODE_PORTS[name],
          backends: at(name === 'here' ? places.neighbour : places.elsewhere),
        })),
      ];
    }

    for (const family of FAMILIES) {
      const node: Node = here;
      const address = (list: readonly { addresses: Record<Family, string> }[], index = 0) =>
        nth(list, index).addresses[family];
      for (const [peer, host] of [
        [pod, address(here.pods)],
        [neighbour, address(here.pods, 1)],
        [remote, address(there.pods)],
        [scene.world, nth(topo.worldAddresses)[family]],
      ] as const) {
        await peer.listen({ host, port: PORT });
      }
      const carried = async (client: Peer, host: string, port: number, server: Peer) => {
        const tag = `${host}-${port}-${client === pod ? 'pod' : 'world'}`;
        await client.connect({ tag, host, port });
        await client.exchange({ tag, text: 'x'.repeat(20_000) });
        return (await server.endpoints({ tag })).remoteAddress;
      };

      for (const [name, server, seen] of [
        ['neighbour', neighbour, address(here.pods)],
        ['elsewhere', remote, address(here.pods)],
        ['world', scene.world, node.addresses[family]],
      ] as const) {
        await t.test(`pod to cluster address, backend: ${name} (${family})`, async () => {
          assert.equal(await carried(pod, VIP[family], PORTS[name], server), seen);
        });
      }
      await t.test(`pod to itself (${family})`, async () => {
        const tag = `self-${family}`;
        await pod.connect({ tag, host: VIP[family], port: PORTS.self });
      });
      await t.test(`pod to node port (${family})`, async () => {
        const host = node.addresses[family];
        const seen = await carried(pod, host, NODE_PORTS.here, neighbour);
        assert.equal(seen, address(here.pods));
      });
      await t.test(`world to node port, backend here: sees the client (${family})`, async () => {
        const host = node.addresses[family];
        const seen = await carried(scene.world, host, NODE_PORTS.here, neighbour);
        assert.equal(seen, topo.gateway[family]);
      });
      await t.test(`world to node port, backend elsewhere: sees the node (${family})`, async () => {
        const host = node.addresses[family];
        const seen = await carried(scene.world, host, NODE_PORTS.elsewhere, remote);
        assert.equal(seen, node.addresses[family]);
      });
    }
  });
}
