import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDrops } from '../lib/counts.ts';
import { configure, nodeSettings, type Settings } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { openWire } from '../lib/raw-socket.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { affordably, until } from '../lib/wait.ts';

const PORT = 7000;
const COUNT = 100;
const RELOADS = 1 + affordably(5);
const SHUFFLES = 1 + affordably(3);
const BYTES = affordably(200e6);

test('connections and transfers live through reloads that replace every program', async (t) => {
  await using scene = await managedScene();
  const { topo, world } = scene;
  const [node, client] = [nth(topo.nodes), nth(scene.pods)];
  await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(node.podCIDRs) });
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    await world.listen({ host, port: PORT });
    await world.bulkServe({ host, port: PORT + 1 });
    await client.connectMany({ prefix: family, count: COUNT, host, port: PORT, localPort: 10_000 });
  }

  let transfers = 0;
  const stop = new AbortController();
  const transfer = async () => {
    const host = nth(topo.worldAddresses).ipv4;
    while (!stop.signal.aborted) {
      const { bytes } = await client.upload({ host, port: PORT + 1, bytes: BYTES });
      assert.equal(bytes, BYTES);
      transfers++;
    }
  };
  const bulk = transfer();
  bulk.catch(() => {}); // told where it is awaited, unless something else fails first

  for (let round = 0; round < RELOADS; round++) {
    await reload(scene, {
      datapath: { routing: round % 2 === 0 ? 'stack' : 'fast' },
      conntrack: { accounting: round % 3 === 0 },
      masquerade: { exclude: [`198.51.${round}.0/24`] },
    });
    for (const prefix of FAMILIES) {
      const census = await client.exchangeMany({ prefix, count: COUNT, text: `round ${round}` });
      assert.deepEqual(census, { alive: COUNT, dead: {} });
      const tag = `${prefix}-new-${round}`;
      await client.connect({ tag, host: nth(topo.worldAddresses)[prefix], port: PORT });
    }
  }
  stop.abort();
  await bulk;
  t.diagnostic(`${transfers} transfers of ${BYTES / 1e6} MB`);
  assert.ok(transfers > 0);
  assert.deepEqual(
    (await wire.take()).map(({ frame }) => dissect(frame).ip),
    [],
  );
});

test('no private source leaves while pods and their ranges come and go with the file', async () => {
  await using scene = await managedScene({ pods: 2 });
  const { topo } = scene;
  const node = nth(topo.nodes);
  const { node: plain, endpoints } = nodeSettings(node) as {
    node: { podCIDRs: string[] };
    endpoints: unknown[];
  };
  await using wire = await openWire(topo.world, 'eth0', {
    sources: ['10.0.0.0/8', 'fd00:1::/64'],
  });
  const stop = new AbortController();
  const talk = async (family: Family) => {
    const target = { host: nth(topo.worldAddresses)[family], port: PORT };
    while (!stop.signal.aborted) await nth(scene.pods, 1).udpFlood({ ...target, count: 32 });
  };
  const talks = Promise.all(FAMILIES.map(talk));
  talks.catch(() => {});

  const wide = { ...plain, podCIDRs: ['10.0.0.0/8', 'fd00::/16'] };
  for (let round = 0; round < SHUFFLES; round++) {
    await reload(scene, { node: wide, endpoints: endpoints.slice(0, 1) });
    await reload(scene, { node: plain, endpoints });
    await reload(scene, { node: wide, endpoints });
    await reload(scene, { node: plain, endpoints: endpoints.slice(0, 1) });
  }
  stop.abort();
  await talks;
  const dropped = FAMILIES.map((family) => readDrops(node, family, 'unknown_source'));
  assert.ok(
    dropped.every((count) => count > 0),
    `${dropped}`,
  );
  assert.deepEqual(
    (await wire.take()).map(({ frame }) => dissect(frame).ip),
    [],
  );
});

async function reload({ topo, agent }: ManagedScene, settings: Settings): Promise<void> {
  configure(nth(topo.nodes), settings);
  const reloads = () => agent.logs.filter(({ msg }) => msg.startsWith('configuration re')).length;
  const before = reloads();
  agent.signal('SIGHUP');
  await until('the reload', () => reloads() > before, { timeout: 60_000 });
  assert.equal(agent.logs.filter(({ msg }) => msg.startsWith('configuration refused')).length, 0);
}
