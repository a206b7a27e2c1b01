import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDrops } from '../lib/counts.ts';
import { dissect } from '../lib/dissect.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { openWire } from '../lib/raw-socket.ts';
import { nth } from '../lib/scene.ts';
import { type Addresses, FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { applyServices, openStage, type Stage } from './service-stage.ts';

const CLUSTER: Addresses = { ipv4: '10.96.0.30', ipv6: 'fd00:96::30' };
const PUBLIC: Addresses = { ipv4: '198.51.100.30', ipv6: '2001:db8:9::30' };
const LOOPBACK: Addresses = { ipv4: '169.254.42.1', ipv6: 'fd73:656b:6973::1' };
const SERVED = 5300;
const DATAGRAMS = 25;
const MTU = 1500;
/** IP and UDP, and what a tunnel takes. */
const HEADERS = { ipv4: 28, ipv6: 48 };
const TUNNEL = { ipv4: 62, ipv6: 74 };
/** ICMP type and code. */
const PORT_UNREACHABLE = { ipv4: [3, 3], ipv6: [1, 4] };

type Place = 'neighbour' | 'elsewhere' | 'itself' | 'world';

/** One way to a backend, by a service of its own; pods use the cluster's, the world the others. */
interface Path {
  what: string;
  type: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  backend: Place;
  /** Who the backend's client is; the node has a port of its own there. */
  sees: 'pod' | 'loopback' | 'node' | 'client';
  /** Of the frontend. */
  port: number;
}

const NODE_PORT: Path = {
  ...{ what: 'node port, backend here', type: 'NodePort', port: 30_055 },
  ...{ backend: 'neighbour', sees: 'client' },
};
const ELSEWHERE: Path = {
  ...{ what: 'cluster address, backend elsewhere', type: 'ClusterIP', port: 30_052 },
  ...{ backend: 'elsewhere', sees: 'pod' },
};
const TUNNELLED: Path = {
  ...{ what: 'direct server return', type: 'LoadBalancer', port: 30_057 },
  ...{ backend: 'elsewhere', sees: 'client' },
};
const PATHS: Path[] = [
  {
    ...{ what: 'cluster address, backend here', type: 'ClusterIP', port: 30_051 },
    ...{ backend: 'neighbour', sees: 'pod' },
  },
  ELSEWHERE,
  {
    ...{ what: 'cluster address, the client itself', type: 'ClusterIP', port: 30_053 },
    ...{ backend: 'itself', sees: 'loopback' },
  },
  {
    ...{ what: 'cluster address, backend in the world', type: 'ClusterIP', port: 30_054 },
    ...{ backend: 'world', sees: 'node' },
  },
  NODE_PORT,
  {
    ...{ what: 'node port, backend elsewhere', type: 'NodePort', port: 30_056 },
    ...{ backend: 'elsewhere', sees: 'node' },
  },
  TUNNELLED,
];

/** The stage, with somebody who hears datagrams at every place. */
interface Hall {
  stage: Stage;
  hearers: Record<Place, Peer>;
}

for (const routing of ['fast', 'stack'] as const) {
  test(`datagrams by every path of a service (${routing} routing)`, async (t) => {
    await using stage = await openStage({ datapath: { routing } });
    const hall = await openHall(stage);
    for (const family of FAMILIES) {
      for (const path of PATHS) {
        await t.test(`${path.what} (${family})`, () => checkPath(hall, path, family));
      }
      for (const path of [ELSEWHERE, TUNNELLED]) {
        await t.test(`${path.what}: fragments are dropped, and counted (${family})`, () =>
          checkDropped(hall, path, family),
        );
      }
      await t.test(`${NODE_PORT.what}: fragments are refused by the node (${family})`, () =>
        checkRefused(hall, family),
      );
    }
  });
}

async function openHall(stage: Stage): Promise<Hall> {
  const { scene, world, servers, first } = stage;
  const pod = scene.topo.use(await startPeer(nth(first.node.pods).ns));
  const [neighbour, elsewhere] = [nth(servers).peer, nth(servers, 1).peer];
  const hall: Hall = { stage, hearers: { neighbour, elsewhere, itself: pod, world } };
  for (const family of FAMILIES) {
    for (const [place, hearer] of Object.entries(hall.hearers)) {
      const host = addressOf(stage, place as Place, family);
      await hearer.udpListen({ host, port: SERVED, echo: false });
    }
  }
  const services = FAMILIES.flatMap((family) =>
    PATHS.map((path) => serviceOf(stage, path, family)),
  );
  await applyServices(first, services);
  return hall;
}

function serviceOf(stage: Stage, path: Path, family: Family): object {
  const { type, port } = path;
  const frontend = { address: hostOf(stage, path, family), port, protocol: 'UDP' };
  const own = { address: CLUSTER[family], port, protocol: 'UDP' };
  return {
    name: `udp-${port}-${family}`,
    type,
    frontends: type === 'NodePort' ? [own] : [frontend],
    ...(type === 'NodePort' ? { nodePort: port } : {}),
    backends: [{ address: addressOf(stage, path.backend, family), port: SERVED }],
    forwarding: path === TUNNELLED ? 'dsr' : 'snat',
  };
}

/** Where a path's clients send to. */
function hostOf({ first }: Stage, { type }: Path, family: Family): string {
  if (type === 'NodePort') return first.node.addresses[family];
  return (type === 'ClusterIP' ? CLUSTER : PUBLIC)[family];
}

function addressOf({ scene, first, second }: Stage, place: Place, family: Family): string {
  const at: Record<Place, Addresses> = {
    neighbour: nth(first.node.pods, 1).addresses,
    elsewhere: nth(second.node.pods).addresses,
    itself: nth(first.node.pods).addresses,
    world: nth(scene.topo.worldAddresses),
  };
  return at[place][family];
}

function seenAs({ scene, first }: Stage, { sees }: Path, family: Family): string {
  const as: Record<Path['sees'], Addresses> = {
    pod: nth(first.node.pods).addresses,
    loopback: LOOPBACK,
    node: first.node.addresses,
    client: scene.topo.gateway,
  };
  return as[sees][family];
}

/** The client's socket is connected: it hears nobody but whom it speaks to. */
async function checkPath({ stage, hearers }: Hall, path: Path, family: Family): Promise<void> {
  const [client, server] = [clientOf(stage, path), hearers[path.backend]];
  const tag = `${path.port}-${family}`;
  const localPort = await open(stage, path, family, tag);
  await client.udpSay({ tag, text: 'first' });
  const from = await until('the first datagram', () =>
    server.udpEndpoints({ tag }).catch(() => undefined),
  );
  assert.equal(from.remoteAddress, seenAs(stage, path, family));
  if (path.sees !== 'node') assert.equal(from.remotePort, localPort);
  assert.equal(await server.udpHear({ tag }), 'first');

  const room = MTU - HEADERS[family] - `${tag} `.length;
  const there = room - (path === TUNNELLED ? TUNNEL[family] : 0);
  for (let round = 0; round < 2; round++) {
    await carry(client, server, tag, 'x'.repeat(there));
    await carry(server, client, tag, 'y'.repeat(room));
  }
  const now = await server.udpEndpoints({ tag });
  assert.deepEqual(now, from);
  await client.udpClose({ tag });
}

/** Many small datagrams and a large one arrive unchanged. */
async function carry(from: Peer, to: Peer, tag: string, large: string): Promise<void> {
  const texts = [...Array.from({ length: DATAGRAMS }, (_, i) => `${i}`), large];
  for (const text of texts) await from.udpSay({ tag, text });
  const heard: string[] = [];
  for (const _ of texts) heard.push(await to.udpHear({ tag, timeout: 10_000 }));
  assert.deepEqual(heard.sort(), texts.sort());
}

/** What is larger than a packet has no ports but in its first part. */
async function checkDropped({ stage }: Hall, path: Path, family: Family): Promise<void> {
  const client = clientOf(stage, path);
  const tag = `dropped-${path.port}-${family}`;
  const dropped = () => readDrops(stage.first.node, family, 'fragment_unsupported');
  const before = dropped();
  await open(stage, path, family, tag);
  await client.udpSay({ tag, text: 'z'.repeat(2 * MTU) });
  await until('the drop', () => dropped() > before);
  await client.udpClose({ tag });
}

async function checkRefused({ stage }: Hall, family: Family): Promise<void> {
  const { world, scene } = stage;
  const tag = `refused-${family}`;
  await using wire = await openWire(scene.topo.world, 'eth0');
  await open(stage, NODE_PORT, family, tag);
  await world.udpSay({ tag, text: 'z'.repeat(2 * MTU) });
  const { frame } = await wire.hear('an error', (frame) => dissect(frame).quote !== undefined);
  const { ip, icmp, quote } = dissect(frame);
  assert.equal(ip?.src, stage.first.node.addresses[family]);
  assert.deepEqual([icmp?.type, icmp?.code], PORT_UNREACHABLE[family]);
  assert.equal(quote?.ip?.dst, stage.first.node.addresses[family]);
  await world.udpClose({ tag });
}

function open(stage: Stage, path: Path, family: Family, tag: string): Promise<number> {
  const target = { host: hostOf(stage, path, family), port: path.port };
  return clientOf(stage, path).udpOpen({ tag, ...target });
}

function clientOf({ client, world }: Stage, { type }: Path): Peer {
  return type === 'ClusterIP' ? client : world;
}
