import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Flooder, openFlooder } from '../lib/flood.ts';
import { atLength } from '../lib/long.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { type FlowKey, KIND, openTable, reverseKey } from '../lib/tables.ts';
import type { Family } from '../lib/topology.ts';

const CAPACITY = atLength(8192, 65_536);
const CONNECTIONS = atLength(1000, 10_000);
/** New flows in a second: more than nodes see, and no more than relief follows on a busy machine. */
const RATE = 10_000;
const TIMES = 5;
const FIRST_PORT = 10_000;
const PORT = 5432;
const TCP = 6;

const settings = {
  maps: { ctTcp: CAPACITY, ctAny: CAPACITY, nat: CAPACITY },
  gc: { interval: '10m' },
};

async function openIdle({ topo, world, pods }: ManagedScene, family: Family): Promise<FlowKey[]> {
  const host = nth(topo.worldAddresses)[family];
  await world.listen({ host, port: PORT });
  const group = { prefix: 'idle', host, port: PORT };
  const keys: FlowKey[] = [];
  for (let first = 0; first < CONNECTIONS; first += 1000) {
    const localPort = FIRST_PORT + first;
    const census = await nth(pods).connectMany({
      ...group,
      prefix: `idle${first}-`,
      count: 1000,
      localPort,
    });
    assert.equal(census.alive, 1000);
    const src = nth(topo.pods).addresses[family];
    for (let i = 0; i < 1000; i++) {
      const key = { src, dst: host, sport: localPort + i, dport: PORT };
      keys.push({ ...key, protocol: TCP, kind: KIND.OUT });
    }
  }
  return keys;
}

/** Connections of which an entry is missing: in CT, or one of both NAT halves. */
async function missing(scene: ManagedScene, family: Family, keys: FlowKey[]): Promise<number> {
  const node = nth(scene.topo.nodes);
  using conntrack = openTable(node, family, 'ct_tcp');
  using nat = openTable(node, family, 'snat');
  return keys.filter((key) => {
    const mapped = nat.translation(key);
    return !conntrack.has(key) || !mapped || !nat.has(reverseKey(key, mapped));
  }).length;
}

async function overload(flooder: Flooder, family: Family, pace = {}): Promise<void> {
  const part = CAPACITY / 4;
  for (let from = 0; from < TIMES * CAPACITY; from += part) {
    await flooder.send({ family, proto: 'tcp', from, count: part, ...pace });
    await flooder.send({ family, proto: 'udp', from, count: part, ...pace });
  }
}

for (const family of ['ipv4'] as const) {
  test(`idle connections keep their entries in a flood of ${TIMES} times the tables (${family})`, async (t) => {
    await using scene = await managedScene({ settings });
    await using flooder = await openFlooder(nth(scene.topo.pods));
    const keys = await openIdle(scene, family);
    assert.equal(await missing(scene, family, keys), 0);
    const begun = performance.now();
    await overload(flooder, family, { rate: RATE });
    t.diagnostic(`${2 * TIMES * CAPACITY} flows in ${Math.round(performance.now() - begun)} ms`);
    assert.equal(await missing(scene, family, keys), 0);
  });

  test(`without relief many lose theirs (${family})`, async (t) => {
    await using scene = await managedScene({ settings });
    await using flooder = await openFlooder(nth(scene.topo.pods));
    const keys = await openIdle(scene, family);
    await scene.agent.kill9();
    await overload(flooder, family);
    const lost = await missing(scene, family, keys);
    t.diagnostic(`${lost} of ${CONNECTIONS}`);
    assert.ok(lost > CONNECTIONS / 2, `${lost} of ${CONNECTIONS}`);
  });
}
