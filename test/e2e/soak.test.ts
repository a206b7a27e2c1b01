import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { datapathNow, readNodeState } from '../../agent/tables/clock.ts';
import {
  type Agent,
  nodeSettings,
  type Settings,
  sekishoJson,
  sekishoText,
  startAgent,
} from '../lib/daemon.ts';
import { atLength, LONG } from '../lib/long.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { openTable } from '../lib/tables.ts';
import { FAMILIES, type Node } from '../lib/topology.ts';
import { affordably } from '../lib/wait.ts';
import { brokenHalves } from './nat-halves.ts';

const SECONDS = atLength(12, 600);
const SEED = Number(process.env.SEKISHO_TEST_SEED ?? Date.now() % 1_000_000);
const [ECHO, SILENT] = [7000, 7001];
/** So short that flows time out by the thousand, so large that no table is ever half full. */
const SETTINGS = {
  maps: { ctTcp: 32_768, ctAny: 32_768, nat: 65_536 },
  conntrack: { timeouts: { tcp: '30s', tcpSyn: '4s', tcpClose: '3s', any: '4s' } },
  gc: { interval: '10s' },
};
const SIZES = { ctTcp: [32_768, 49_152], ctAny: [32_768, 20_000], nat: [65_536, 131_072] };

/** New flows into a table that holds the pairs of 2,048. */
const OVERRUN = 5000;

test('nothing is lost or left over after a random life', async (t) => {
  t.diagnostic(`${SECONDS} s, SEKISHO_TEST_SEED=${SEED}`);
  await using scene = await bareScene({ pods: 3 });
  const life = await begin(scene);
  const deadline = performance.now() + 1000 * affordably(SECONDS);
  let rounds = 0;
  for (; rounds === 0 || performance.now() < deadline; rounds++) {
    for (const action of shuffled(life, ACTIONS)) await action(life);
  }
  t.diagnostic(`${rounds} rounds of ${ACTIONS.length} actions`);
  if (LONG) await checkMemory(t, life);

  const report = await nth(scene.pods).stopLoad();
  t.diagnostic(`${report.connections} connections, ${report.datagrams} datagrams`);
  assert.deepEqual(report.broken, {}, 'no short connection broke');
  assert.ok(
    report.streams.every(({ intact }) => intact),
    JSON.stringify(report.streams),
  );
  await checkAtRest(scene);
});

for (const family of FAMILIES) {
  test(`what LRU took is told to the entry (${family})`, async () => {
    await using scene = await bareScene({ pods: 1 });
    const settings = { maps: { ctTcp: 1024, ctAny: 16_384, nat: 4096 }, gc: { interval: '10m' } };
    const agent = await startAgent(scene.topo, settings);
    await agent.kill9();
    const host = nth(scene.topo.worldAddresses)[family];
    await scene.world.udpListen({ host, port: SILENT, echo: false });
    const flood = { host, port: SILENT, localPort: 33_000, count: OVERRUN };
    await nth(scene.pods).udpFlood(flood);
    using table = openTable(nth(scene.topo.nodes), family, 'snat');
    const lost = 2 * OVERRUN - (await table.entries()).length;
    assert.ok(lost > OVERRUN, `${lost} lost`);
    await startAgent(scene.topo, settings);
    const { passes } = await sekishoJson<{ passes: Pass[] }>(scene.topo, 'gc', 'run');
    const told = (name: string) =>
      passes.find((pass) => pass.family === family && pass.table === name)?.evicted;
    assert.deepEqual([told('snat'), told('ct_any'), told('ct_tcp')], [lost, 0, 0]);
  });
}

interface Pass {
  family: string;
  table: string;
  evicted: number;
  failed: number;
}

interface MapRow {
  name: string;
  evicted: number | null;
}

/** What is going on, and what is drawn from next. */
interface Life {
  scene: Scene;
  settings: Settings;
  agent: Agent;
  random: () => number;
  /** Conversations that are open, by pod. */
  open: Map<number, string[]>;
  opened: number;
}

async function begin(scene: Scene): Promise<Life> {
  const settings = settingsOf(nth(scene.topo.nodes));
  const agent = await startAgent(scene.topo, settings);
  const addresses = FAMILIES.map((family) => nth(scene.topo.worldAddresses)[family]);
  for (const host of addresses) {
    await scene.world.listen({ host, port: ECHO });
    await scene.world.udpListen({ host, port: SILENT, echo: false });
    await scene.world.echoServe({ host, port: 7002 });
  }
  const targets = addresses.map((host) => ({ host, port: 7002 }));
  await nth(scene.pods).startLoad({ targets, rate: 1_000_000 });
  const life = { scene, settings, agent, random: generator(SEED), open: newBooks(), opened: 0 };
  await replace(life);
  return life;
}

/** The third pod is the one that comes and goes: the configuration does not know it. */
function settingsOf(node: Node): Settings {
  const endpoints = nodeSettings(node).endpoints as unknown[];
  return { ...SETTINGS, endpoints: endpoints.slice(0, 2) };
}

const newBooks = (): Life['open'] =>
  new Map([
    [1, []],
    [2, []],
  ]);

const ACTIONS = [connect, speak, close, silence, connect, replace, resize, reset, collect, restart];

async function connect(life: Life): Promise<void> {
  const pod = pick(life, [1, 2]);
  const tag = `c${life.opened++}`;
  const host = pick(life, hosts(life));
  await peer(life, pod).connect({ tag, host, port: ECHO });
  life.open.get(pod)?.push(tag);
}

async function speak(life: Life): Promise<void> {
  for (const [pod, tags] of life.open) {
    for (const tag of tags.slice(0, 20)) await peer(life, pod).exchange({ tag });
  }
}

async function close(life: Life): Promise<void> {
  await endOne(life, (pod, tag) => peer(life, pod).close({ tag }));
}

async function reset(life: Life): Promise<void> {
  await endOne(life, (pod, tag) => peer(life, pod).reset({ tag }));
}

async function silence(life: Life): Promise<void> {
  const count = 200 + Math.floor(life.random() * 400);
  await peer(life, 1).udpFlood({ host: pick(life, hosts(life)), port: SILENT, count });
}

async function collect(life: Life): Promise<void> {
  await sekishoText(life.scene.topo, 'gc', 'run');
}

async function replace(life: Life): Promise<void> {
  const { name, interface: link, addresses } = nth(life.scene.topo.pods, 2);
  await sekishoText(life.scene.topo, 'endpoint', 'delete', name).catch(() => {});
  for (const tag of life.open.get(2) ?? []) await peer(life, 2).reset({ tag });
  life.open.set(2, []);
  const words = Object.values(addresses).flatMap((address) => ['--address', address]);
  await sekishoText(life.scene.topo, 'endpoint', 'add', name, '--interface', link, ...words);
}

async function resize(life: Life): Promise<void> {
  const table = pick(life, ['ctTcp', 'ctAny', 'nat'] as const);
  await sekishoText(life.scene.topo, 'map', 'resize', table, `${pick(life, SIZES[table])}`);
}

async function restart(life: Life): Promise<void> {
  if (life.random() < 0.5) await life.agent.kill9();
  else await life.agent.stop();
  life.agent = await startAgent(life.scene.topo, life.settings);
}

async function endOne(life: Life, end: (pod: number, tag: string) => Promise<unknown>) {
  const pod = pick(life, [1, 2]);
  const tag = life.open.get(pod)?.shift();
  if (tag !== undefined) await end(pod, tag);
}

/** The daemon is left alone for a minute of load and passes; what it holds must not grow. */
async function checkMemory(t: TestContext, { scene, agent }: Life): Promise<void> {
  const figures: number[] = [];
  for (let i = 0; i < 60; i++) {
    await sekishoText(scene.topo, 'gc', 'run');
    figures.push(residentBytes(agent.pid));
  }
  const [first, last] = [figures.slice(10, 30), figures.slice(-20)].map((part) =>
    Math.max(...part),
  );
  t.diagnostic(`resident memory ${first}, then ${last} bytes`);
  assert.ok((last ?? 0) < 1.1 * (first ?? 0), `${figures}`);
}

function residentBytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(text)?.[1]);
}

/** Everything that was opened has timed out or been closed: the books must be balanced. */
async function checkAtRest(scene: Scene): Promise<void> {
  const node = nth(scene.topo.nodes);
  const now = datapathNow(readNodeState(node.bpffs)) - 1;
  const passes = await sekishoJson<{ passes: Pass[] }>(scene.topo, 'gc', 'run');
  for (const { family, table, evicted, failed } of passes.passes) {
    assert.equal(evicted, 0, `${family}/${table} lost entries that nobody deleted`);
    assert.equal(failed, 0, `${family}/${table}`);
  }
  const maps = await sekishoJson<MapRow[]>(scene.topo, 'map', 'list');
  for (const { name, evicted } of maps) assert.equal(evicted ?? 0, 0, name);
  for (const family of FAMILIES) {
    assert.deepEqual(await brokenHalves(node, family, now), []);
  }
}

const hosts = ({ scene }: Life) => FAMILIES.map((family) => nth(scene.topo.worldAddresses)[family]);
const peer = ({ scene }: Life, pod: number) => nth(scene.pods, pod);

function shuffled<T>({ random }: Life, list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

function pick<T>({ random }: Life, list: readonly T[]): T {
  return nth(list, Math.floor(random() * list.length));
}

/** mulberry32 */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
