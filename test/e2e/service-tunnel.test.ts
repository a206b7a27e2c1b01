import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import ipaddr from 'ipaddr.js';
import { dissect } from '../lib/dissect.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { openWire, type Wire } from '../lib/raw-socket.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { type Addresses, FAMILIES, type Family } from '../lib/topology.ts';
import { readWithTshark, withoutTshark } from '../lib/tshark.ts';
import { until } from '../lib/wait.ts';
import { startNodes } from './two-nodes.ts';

const BALANCER: Addresses = { ipv4: '198.51.100.10', ipv6: '2001:db8:9::10' };
const [PORT, SERVED] = [80, 8080];

const FIELDS = [
  ...(['ip.src', 'ip.dst', 'ip.checksum.status', 'ipv6.src', 'ipv6.dst'] as const),
  ...(['udp.dstport', 'udp.checksum.status', 'tcp.dstport', 'tcp.checksum.status'] as const),
  ...(['geneve.version', 'geneve.flags.critical', 'geneve.proto_type', 'geneve.vni'] as const),
  ...(['geneve.option.class', 'geneve.option.type', 'geneve.options', '_ws.malformed'] as const),
];
type Reading = Record<(typeof FIELDS)[number], string[]>;

/** What tshark says of checksums. */
const [RIGHT, ABSENT] = ['1', '3'];

const ethtool = spawnSync('ethtool', ['--version']).error ? 'ethtool is not installed' : false;

test('tshark reads what goes through the tunnel, and its option', {
  skip: withoutTshark || ethtool,
}, async (t) => {
  await using scene = await bareScene({ nodes: 2 });
  const { topo, world } = scene;
  const { ns, pods } = nth(topo.nodes, 1);
  await serve(scene);
  const server = topo.use(await startPeer(nth(pods).ns));
  for (const family of FAMILIES) {
    const served = { host: nth(pods).addresses[family], port: SERVED };
    await server.listen(served);
    await server.udpListen(served);
    for (const protocol of ['tcp', 'udp'] as const) {
      await t.test(`every packet of a connection: ${protocol}, ${family}`, async () => {
        await using wire = await openWire(ns, 'eth0');
        const exchange = protocol === 'tcp' ? exchangeLines : exchangeDatagrams;
        await exchange(world, family);
        const frames = await tunnelled(wire, protocol === 'tcp' ? 4 : 1);
        for (const reading of readWithTshark(frames, FIELDS)) {
          assert.deepEqual(reading, expected(scene, family, protocol));
        }
      });
    }
  }
});

async function serve(scene: Scene): Promise<void> {
  const { topo } = scene;
  const [middle, node] = [nth(topo.nodes), nth(topo.nodes, 1)];
  const { ns, addresses } = nth(node.pods);
  const services = FAMILIES.map((family) => ({
    name: `web-${family}`,
    type: 'LoadBalancer',
    frontends: ['TCP', 'UDP'].map((protocol) => {
      return { address: BALANCER[family], port: PORT, protocol };
    }),
    backends: [{ address: addresses[family], port: SERVED }],
    forwarding: 'dsr',
  }));
  await startNodes(scene, () => ({ services }));
  await topo.world.ip(
    `route add ${BALANCER.ipv4} via ${middle.addresses.ipv4}`,
    `route add ${BALANCER.ipv6} via ${middle.addresses.ipv6} dev eth0`,
  );
  // where a device is to fill a checksum in, there is none to be verified yet
  for (const each of [topo.world, middle.ns, node.ns, ns]) {
    await each.exec('ethtool', '-K', 'eth0', 'tx', 'off', 'gso', 'off', 'gro', 'off');
  }
}

async function exchangeLines(client: Peer, family: Family): Promise<void> {
  const tag = `tcp-${family}`;
  await client.connect({ tag, host: BALANCER[family], port: PORT });
  await client.exchange({ tag });
}

async function exchangeDatagrams(client: Peer, family: Family): Promise<void> {
  const tag = `udp-${family}`;
  await client.udpOpen({ tag, host: BALANCER[family], port: PORT });
  await client.udpExchange({ tag, attempts: 3 });
}

async function tunnelled(wire: Wire, least: number): Promise<Uint8Array[]> {
  const frames: Uint8Array[] = [];
  await until(`${least} packets in a tunnel`, async () => {
    const heard = (await wire.take()).map(({ frame }) => frame);
    frames.push(...heard.filter((frame) => dissect(frame).udp?.dport === 6081));
    return frames.length >= least;
  });
  return frames;
}

function expected({ topo }: Scene, family: Family, protocol: 'tcp' | 'udp'): Reading {
  const [middle, node] = [nth(topo.nodes), nth(topo.nodes, 1)];
  const [src, dst] = [topo.gateway[family], nth(node.pods).addresses[family]];
  const [ipv4, tcp] = [family === 'ipv4', protocol === 'tcp'];
  const frontend = [...ipaddr.parse(BALANCER[family]).toByteArray(), 0, PORT, 0, 0];
  const option = [0x01, 0x4b, 0x81, frontend.length / 4, ...frontend];
  return {
    'ip.src': [middle.addresses.ipv4, ...(ipv4 ? [src] : [])],
    'ip.dst': [node.addresses.ipv4, ...(ipv4 ? [dst] : [])],
    'ip.checksum.status': ipv4 ? [RIGHT, RIGHT] : [RIGHT],
    'ipv6.src': ipv4 ? [] : [src],
    'ipv6.dst': ipv4 ? [] : [dst],
    'udp.dstport': ['6081', ...(tcp ? [] : [`${SERVED}`])],
    'udp.checksum.status': [ABSENT, ...(tcp ? [] : [RIGHT])],
    'tcp.dstport': tcp ? [`${SERVED}`] : [],
    'tcp.checksum.status': tcp ? [RIGHT] : [],
    'geneve.version': ['0'],
    'geneve.flags.critical': ['1'],
    'geneve.proto_type': ['0x6558'],
    'geneve.vni': ['0x000002'],
    'geneve.option.class': ['0x014b'],
    'geneve.option.type': ['0x81'],
    'geneve.options': [Buffer.from(option).toString('hex')],
    '_ws.malformed': [],
  };
}
