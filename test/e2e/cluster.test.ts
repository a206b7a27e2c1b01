import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startAgent } from '../lib/daemon.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Node, type Pod } from '../lib/topology.ts';

const PORT = 7000;

test('pods of two nodes reach each other as themselves', async (t) => {
  await using scene = await bareScene({ nodes: 2 });
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
    await startAgent(topo, { cluster: { nodes: [describeNode(other)] } }, node);
  }
  const first = { pod: nth(here.pods), peer: nth(scene.pods) };
  const second = { pod: nth(there.pods), peer: topo.use(await startPeer(nth(there.pods).ns)) };
  for (const [client, server] of [
    [first, second],
    [second, first],
  ] as const) {
    for (const family of FAMILIES) {
      await t.test(`${client.pod.name} to ${server.pod.name} (${family})`, () =>
        checkPair(client, server, family),
      );
    }
  }

  for (const [index, family] of FAMILIES.entries()) {
    await t.test(`and the world sees the node of each (${family})`, async () => {
      const host = nth(topo.worldAddresses)[family];
      await scene.world.listen({ host, port: PORT + index });
      for (const [{ peer }, node] of [
        [first, here],
        [second, there],
      ] as const) {
        const tag = `${node.name}-${family}`;
        await peer.connect({ tag, host, port: PORT + index });
        const { remoteAddress } = await scene.world.endpoints({ tag });
        assert.equal(remoteAddress, node.addresses[family]);
      }
    });
  }
});

interface Inhabitant {
  pod: Pod;
  peer: Peer;
}

async function checkPair(client: Inhabitant, server: Inhabitant, family: 'ipv4' | 'ipv6') {
  const host = server.pod.addresses[family];
  const tag = `${client.pod.name}-${family}`;
  const port = await server.peer.listen({ host });
  await client.peer.connect({ tag, host, port });
  await client.peer.exchange({ tag, text: 'x'.repeat(20_000) });
  const tcp = await server.peer.endpoints({ tag });
  assert.equal(tcp.remoteAddress, client.pod.addresses[family]);

  const udpPort = await server.peer.udpListen({ host });
  await client.peer.udpOpen({ tag, host, port: udpPort });
  await client.peer.udpExchange({ tag, attempts: 3 });
  const udp = await server.peer.udpEndpoints({ tag });
  assert.equal(udp.remoteAddress, client.pod.addresses[family]);

  await client.pod.ns.exec('ping', '-c', '1', '-W', '2', host);
}

function describeNode({ name, addresses, podCIDRs }: Node) {
  return { name, address: addresses.ipv4, podCIDRs: Object.values(podCIDRs) };
}
