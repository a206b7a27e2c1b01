import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Flooder, openFlooder } from '../lib/flood.ts';
import { atLength, LONG } from '../lib/long.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { type FlowKey, KIND, openTable, reverseKey } from '../lib/tables.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { affordably } from '../lib/wait.ts';

const CAPACITY = atLength(8192, 65_536);
const CONNECTIONS = atLength(1000, 10_000);
/** New flows in a second; small tables fill in less time than a busy machine may take to answer. */
const RATE = affordably(atLength(4000, 10_000));
/** Tables of connections full; a NAT table takes two entries for each flow, of both kinds. */
const TIMES = atLength(2.5, 5);
const UNHINDERED = 5;
/** Together, or each in a test of its own: one process holds no 20,000 connections everywhere. */
const GROUPS: readonly (readonly Family[])[] = LONG ? FAMILIES.map((one) => [one]) : [FAMILIES];
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

interface Overload {
  family: Family;
  /** So many times as many flows as each table of connections can hold. */
  times: number;
  rate?: number;
}

async function overload(flooder: Flooder, { family, times, rate }: Overload): Promise<void> {
  const part = CAPACITY / 4;
  for (let from = 0; from < times * CAPACITY; from += part) {
    for (const proto of ['tcp', 'udp'] as const) {
      await flooder.send({ family, proto, from, count: part, ...(rate && { rate }) });
    }
  }
}

/** Idle connections of each family, of which nothing is missing. */
async function openAll(
  scene: ManagedScene,
  families: readonly Family[],
): Promise<Map<Family, FlowKey[]>> {
  const opened = new Map<Family, FlowKey[]>();
  for (const family of families) opened.set(family, await openIdle(scene, family));
  for (const [family, keys] of opened) assert.equal(await missing(scene, family, keys), 0);
  return opened;
}

for (const families of GROUPS) {
  const about = families.join(', ');
  test(`idle connections keep their entries in a flood of ${TIMES} times the tables (${about})`, async (t) => {
    await using scene = await managedScene({ settings });
    await using flooder = await openFlooder(nth(scene.topo.pods));
    for (const [family, keys] of await openAll(scene, families)) {
      const begun = performance.now();
      await overload(flooder, { family, times: TIMES, rate: RATE });
      const took = Math.round(performance.now() - begun);
      t.diagnostic(`${family}: ${2 * TIMES * CAPACITY} flows in ${took} ms`);
      assert.equal(await missing(scene, family, keys), 0, family);
    }
  });

  test(`without relief many lose theirs (${about})`, async (t) => {
    await using scene = await managedScene({ settings });
    await using flooder = await openFlooder(nth(scene.topo.pods));
    const opened = await openAll(scene, families);
    await scene.agent.kill9();
    for (const [family, keys] of opened) {
      await overload(flooder, { family, times: UNHINDERED });
      const lost = await missing(scene, family, keys);
      t.diagnostic(`${family}: ${lost} of ${CONNECTIONS}`);
      assert.ok(lost > CONNECTIONS / 4, `${family}: ${lost} of ${CONNECTIONS}`);
    }
  });
}
