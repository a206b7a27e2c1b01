import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atLength } from '../lib/long.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Family, type Node } from '../lib/topology.ts';
import { affordably } from '../lib/wait.ts';
import { startNodes } from './two-nodes.ts';

const BULK = affordably(atLength(4e6, 1e9));
const PORT = 8080;
const BULK_PORT = 8081;
/** What is added to a frontend's port for that of the same service of bulk. */
const FOR_BULK = 1000;
const VIP = { ipv4: '10.96.0.10', ipv6: 'fd00:96::10' };
/** Frontend ports of the cluster address, and node ports, by who answers. */
const PORTS = { neighbour: 80, elsewhere: 81, self: 82, world: 83 };
const NODE_PORTS = { here: 30001, elsewhere: 30002 };

for (const routing of ['fast', 'stack'] as const) {
  test(`every path of a service carries connections (${routing} routing)`, async (t) => {
    await using scene = await bareScene({ nodes: 2, pods: 2 });
    const { topo } = scene;
    const [here, there] = [nth(topo.nodes), nth(topo.nodes, 1)];
    await startNodes(scene, (node) => ({
      datapath: { routing },
      services: node === here ? FAMILIES.flatMap((family) => described(family)) : [],
    }));
    const [pod, neighbour] = [nth(scene.pods), nth(scene.pods, 1)];
    const remote = topo.use(await startPeer(nth(there.pods).ns));

    function described(family: Family) {
      const places = {
        neighbour: nth(here.pods, 1).addresses[family],
        elsewhere: nth(there.pods).addresses[family],
        self: nth(here.pods).addresses[family],
        world: nth(topo.worldAddresses)[family],
      };
      const twice = (describe: (kind: string, further: number, port: number) => object) => [
        describe('', 0, PORT),
        describe('bulk-', FOR_BULK, BULK_PORT),
      ];
      return [
        ...(['neighbour', 'elsewhere', 'self', 'world'] as const).flatMap((name) =>
          twice((kind, further, port) => ({
            name: `${kind}${name}-${family}`,
            type: 'ClusterIP',
            frontends: [{ address: VIP[family], port: PORTS[name] + further }],
            backends: [{ address: places[name], port }],
          })),
        ),
        ...(['here', 'elsewhere'] as const).flatMap((name) =>
          twice((kind, further, port) => ({
            name: `${kind}port-${name}-${family}`,
            type: 'NodePort',
            nodePort: NODE_PORTS[name] + further,
            backends: [{ address: places[name === 'here' ? 'neighbour' : name], port }],
          })),
        ),
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
        await peer.bulkServe({ host, port: BULK_PORT });
      }
      const hash = await pod.expectedHash({ bytes: BULK });
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

      for (const [name, client, host, port] of [
        ['cluster address, backend here', pod, VIP[family], PORTS.neighbour],
        ['cluster address, backend elsewhere', pod, VIP[family], PORTS.elsewhere],
        ['cluster address, backend in the world', pod, VIP[family], PORTS.world],
        ['node port, backend here', scene.world, node.addresses[family], NODE_PORTS.here],
        ['node port, backend elsewhere', scene.world, node.addresses[family], NODE_PORTS.elsewhere],
      ] as const) {
        await t.test(`${BULK / 1e6} MB go both ways unchanged: ${name} (${family})`, async () => {
          const order = { host, port: port + FOR_BULK, bytes: BULK, hash: true };
          assert.equal((await client.upload(order)).hash, hash);
          assert.equal((await client.download(order)).hash, hash);
        });
      }
    }
  });
}
