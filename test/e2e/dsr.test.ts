import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { readCounters } from '../../agent/tables/counters.ts';
import { startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { buildTunnelled, readTunnelled } from '../lib/geneve.ts';
import { atLength } from '../lib/long.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { KIND, openTable } from '../lib/tables.ts';
import { type Addresses, FAMILIES, type Family, type Node } from '../lib/topology.ts';
import { affordably, until } from '../lib/wait.ts';

const BULK = affordably(atLength(64e6, 1e9));
const VIP: Addresses = { ipv4: '198.51.100.10', ipv6: '2001:db8:9::10' };
const PORT = 80;
const BULK_PORT = 81;
/** What is added to a frontend's port for the backend's. */
const SERVED = 8000;
const OVERHEAD = { ipv4: 62, ipv6: 74 };

/** A service whose address the network sends to the first node; its backend is on the second. */
interface Served {
  scene: Scene;
  middle: Node;
  backends: Node;
  server: Peer;
  pod: Addresses;
}

const WAYS = [
  { routing: 'fast', attach: 'auto' },
  { routing: 'stack', attach: 'auto' },
  { routing: 'fast', attach: 'tc' },
];

for (const way of WAYS) {
  test(`direct server return, ${way.routing} routing, attach: ${way.attach}`, async (t) => {
    await using scene = await bareScene({ nodes: 2 });
    const served = await serve(scene, way);
    for (const family of FAMILIES) {
      await t.test(`${BULK / 1e6} MB go both ways unchanged, with offloads on (${family})`, () =>
        checkBulk(served, family),
      );
      await t.test(`both sides see each other's address (${family})`, () =>
        checkAddresses(served, family),
      );
      await t.test(`the node in the middle has one SVC entry and no NAT entry (${family})`, () =>
        checkMiddle(served, family),
      );
      await t.test(`lost entries come back, whoever speaks next (${family})`, () =>
        checkRepair(served, family),
      );
      await t.test(`what does not fit is told to the client (${family})`, () =>
        checkTooBig(served, family),
      );
      await t.test(`a stranger's tunnel is not unwrapped (${family})`, () =>
        checkStranger(served, family),
      );
    }
  });
}

test('without offloads every checksum in and around the tunnel is right', async (t) => {
  await using scene = await bareScene({ nodes: 2 });
  const served = await serve(scene, { routing: 'fast' });
  const { middle, backends } = served;
  const spaces = [scene.topo.world, middle.ns, backends.ns, nth(backends.pods).ns];
  for (const ns of spaces) {
    await ns.exec('ethtool', '-K', 'eth0', 'tx', 'off', 'gso', 'off', 'gro', 'off');
  }
  for (const family of FAMILIES) {
    await t.test(`with bulk in both directions (${family})`, () => checkBulk(served, family));
    await t.test(`with errors of the node (${family})`, () => checkTooBig(served, family));
  }
});

async function serve(scene: Scene, datapath: object): Promise<Served> {
  const { topo } = scene;
  const [middle, backends] = [nth(topo.nodes), nth(topo.nodes, 1)];
  const pod = nth(backends.pods).addresses;
  const services = FAMILIES.flatMap((family) => [
    service(`web-${family}`, PORT, VIP[family], pod[family]),
    service(`bulk-${family}`, BULK_PORT, VIP[family], pod[family]),
  ]);
  for (const [node, other] of [
    [middle, backends],
    [backends, middle],
  ] as const) {
    const settings = { cluster: { nodes: [describeNode(other)] }, datapath, services };
    await startAgent(topo, settings, node);
  }
  await topo.world.ip(
    `route add ${VIP.ipv4} via ${middle.addresses.ipv4}`,
    `route add ${VIP.ipv6} via ${middle.addresses.ipv6} dev eth0`,
  );
  const server = topo.use(await startPeer(nth(backends.pods).ns));
  return { scene, middle, backends, server, pod };
}

function service(name: string, port: number, address: string, pod: string) {
  return {
    name,
    type: 'LoadBalancer',
    frontends: ['TCP', 'UDP'].map((protocol) => ({ address, port, protocol })),
    backends: [{ address: pod, port: port + SERVED }],
    forwarding: 'dsr',
  };
}

function describeNode({ name, addresses, podCIDRs }: Node) {
  return { name, address: addresses.ipv4, podCIDRs: Object.values(podCIDRs) };
}

async function checkBulk({ scene, server, pod }: Served, family: Family) {
  const { world } = scene;
  await server.bulkServe({ host: pod[family], port: BULK_PORT + SERVED });
  const order = { host: VIP[family], port: BULK_PORT, bytes: BULK, hash: true };
  const hash = await world.expectedHash({ bytes: BULK });
  assert.equal((await world.upload(order)).hash, hash);
  assert.equal((await world.download(order)).hash, hash);
}

async function checkAddresses({ scene, server, pod, backends }: Served, family: Family) {
  const { world, topo } = scene;
  const [host, port] = [VIP[family], PORT];
  await server.listen({ host: pod[family], port: PORT + SERVED });
  await server.udpListen({ host: pod[family], port: PORT + SERVED });
  await using wire = await openWire(backends.ns, 'eth0');
  await world.connect({ tag: family, host, port });
  const { remoteAddress, remotePort } = await server.endpoints({ tag: family });
  const client = await world.endpoints({ tag: family });
  assert.equal(remoteAddress, topo.gateway[family]);
  assert.equal(remotePort, client.localPort);
  const { frame } = await wire.hear('a tunnel', (frame) => dissect(frame).udp?.dport === 6081);
  const { option, vni } = readTunnelled(frame);
  assert.deepEqual([option.address, option.port, vni], [host, port, 2]);

  await world.udpOpen({ tag: `udp-${family}`, host, port });
  await world.udpExchange({ tag: `udp-${family}`, attempts: 3 });
  const udp = await server.udpEndpoints({ tag: `udp-${family}` });
  assert.equal(udp.remoteAddress, topo.gateway[family]);
}

async function checkMiddle({ middle }: Served, family: Family) {
  for (const name of ['ct_tcp', 'snat'] as const) {
    using table = openTable(middle, family, name);
    const kinds = (await table.entries()).map(({ key }) => key.kind);
    assert.deepEqual(new Set(kinds), new Set(name === 'snat' ? [] : [KIND.SVC]));
  }
}

async function checkRepair({ scene, server, pod, backends }: Served, family: Family) {
  const { world } = scene;
  const { remoteAddress: src, remotePort: sport } = await server.endpoints({ tag: family });
  using table = openTable(backends, family, 'ct_tcp');
  const flow = { src, dst: pod[family], sport, dport: PORT + SERVED, protocol: 6 };
  const [OUT, IN] = [KIND.OUT, KIND.IN].map((kind) => ({ ...flow, kind }));
  assert.ok(OUT && IN);
  for (const lost of [[OUT], [IN], [OUT, IN]]) {
    for (const key of lost) assert.ok(table.delete(key));
    await world.exchange({ tag: family, text: `client ${lost.length}` });
    assert.ok(table.has(IN));
  }
  for (const lost of [[OUT], [IN]]) {
    for (const key of lost) assert.ok(table.has(key) && table.delete(key));
    await until('both entries', async () => {
      await server.say({ tag: family, text: 'from the server' });
      assert.equal(await world.hear({ tag: family }), 'from the server');
      return table.has(OUT) && table.has(IN);
    });
  }
  for (const key of [OUT, IN]) table.delete(key);
  await server.say({ tag: family, text: 'nobody knows me' });
  await world.exchange({ tag: family, text: 'but I do' });
  assert.equal(await world.ended({ tag: family }), null);
}

async function checkTooBig({ scene }: Served, family: Family) {
  const { world, topo } = scene;
  const tag = `big-${family}`;
  await using wire = await openWire(topo.world, 'eth0');
  await world.udpOpen({ tag, host: VIP[family], port: BULK_PORT });
  await assert.rejects(world.udpExchange({ tag, text: 'x'.repeat(1430), timeout: 200 }));
  const error = await wire.hear('an error', (frame) => dissect(frame).quote !== undefined);
  const { icmp, ip, checksums } = dissect(error.frame);
  assert.equal(icmp?.mtu, 1500 - OVERHEAD[family]);
  assert.equal(ip?.src, VIP[family]);
  assert.equal(checksums, 'ok');
}

async function checkStranger({ scene, backends, pod }: Served, family: Family) {
  const { topo } = scene;
  const path = join(backends.bpffs, family, 'counters');
  using counters = openPinnedMap(path);
  assert.ok(counters);
  const dropped = () => readCounters(counters).drops.from_netdev.tunnel_source;
  const before = dropped();
  await using wire = await openWire(topo.world, 'eth0');
  const src = nth(topo.worldAddresses)[family];
  await wire.send(
    buildTunnelled({
      ...{ from: topo.gateway.ipv4, to: backends.addresses.ipv4 },
      eth: { src: topo.worldMac, dst: backends.mac },
      frontend: { address: VIP[family], port: PORT },
      inner: {
        ip: { src, dst: pod[family] },
        tcp: { sport: 4000, dport: PORT + SERVED, flags: 'S' },
      },
    }),
  );
  await until('the drop', () => dropped() > before);
  using table = openTable(backends, family, 'ct_tcp');
  const key = { src, dst: pod[family], sport: 4000, dport: PORT + SERVED, protocol: 6 };
  for (const kind of [KIND.IN, KIND.OUT]) assert.ok(!table.has({ ...key, kind }));
}
