import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { dissect } from '../lib/dissect.ts';
import type { Peer } from '../lib/peer.ts';
import { openWire } from '../lib/raw-socket.ts';
import { nth, type Scene } from '../lib/scene.ts';
import { type Addresses, FAMILIES, type Family } from '../lib/topology.ts';

/** Who speaks to whom, and as whom the server sees the client. */
interface Path {
  name: string;
  client: Peer;
  server: Peer;
  to: Addresses;
  seenAs: Addresses;
  ping(address: string): Promise<unknown>;
}

/**
 * Every direction in which a masquerading node lets traffic through, in both families, with the
 * kernel's own sockets. Holds for any implementation of masquerade on the scene's node.
 */
export async function checkReachability(t: TestContext, scene: Scene): Promise<void> {
  const { topo } = scene;
  const { podCIDRs } = nth(topo.nodes);
  await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(podCIDRs) });
  let port = 7000;
  for (const path of pathsOf(scene)) {
    for (const family of FAMILIES) {
      port++;
      await t.test(`${path.name} over TCP (${family})`, () => checkTcp(path, family, port));
      await t.test(`${path.name} over UDP (${family})`, () => checkUdp(path, family, port));
      await t.test(`${path.name} by ping (${family})`, async () => {
        await path.ping(path.to[family]);
      });
    }
  }
  await t.test('no packet with a private source has reached the world', async () => {
    const leaks = (await wire.take()).map(({ frame }) => dissect(frame).ip);
    assert.deepEqual(leaks, []);
  });
}

function pathsOf({ topo, pods, node, world }: Scene): Path[] {
  const outside = nth(topo.worldAddresses);
  const own = nth(topo.nodes).addresses;
  const first = nth(topo.pods);
  const second = nth(topo.pods, 1);
  const pingFrom = (ns: typeof topo.world) => (address: string) =>
    ns.exec('ping', '-c', '2', '-i', '0.1', '-W', '2', address);
  return [
    {
      name: 'a pod reaches the world as the node',
      client: nth(pods),
      server: world,
      to: outside,
      seenAs: own,
      ping: pingFrom(first.ns),
    },
    {
      name: 'a pod reaches another pod as itself',
      client: nth(pods),
      server: nth(pods, 1),
      to: second.addresses,
      seenAs: first.addresses,
      ping: pingFrom(first.ns),
    },
    {
      name: 'a pod reaches its node as itself',
      client: nth(pods),
      server: node,
      to: own,
      seenAs: first.addresses,
      ping: pingFrom(first.ns),
    },
    {
      name: 'the node reaches a pod as itself',
      client: node,
      server: nth(pods),
      to: first.addresses,
      seenAs: own,
      ping: pingFrom(topo.node),
    },
    {
      name: 'the node reaches the world as itself',
      client: node,
      server: world,
      to: outside,
      seenAs: own,
      ping: pingFrom(topo.node),
    },
    {
      name: 'the world reaches the node as itself',
      client: world,
      server: node,
      to: own,
      seenAs: topo.gateway,
      ping: pingFrom(topo.world),
    },
  ];
}

async function checkTcp(path: Path, family: Family, port: number): Promise<void> {
  const tag = `tcp-${port}`;
  await path.server.listen({ host: path.to[family], port });
  await path.client.connect({ tag, host: path.to[family], port });
  await path.client.exchange({ tag, text: 'x'.repeat(20_000) });
  await path.server.say({ tag, text: 'the server speaks' });
  assert.equal(await path.client.hear({ tag }), 'the server speaks');
  const { remoteAddress } = await path.server.endpoints({ tag });
  assert.equal(remoteAddress, path.seenAs[family]);
  await path.client.close({ tag });
}

async function checkUdp(path: Path, family: Family, port: number): Promise<void> {
  const tag = `udp-${port}`;
  await path.server.udpListen({ host: path.to[family], port });
  await path.client.udpOpen({ tag, host: path.to[family], port });
  await path.client.udpExchange({ tag });
  await path.client.udpExchange({ tag, text: 'x'.repeat(1_000) });
  const { remoteAddress } = await path.server.udpEndpoints({ tag });
  assert.equal(remoteAddress, path.seenAs[family]);
}
