import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { mapById, openPinnedMap } from '../../agent/kernel/map.ts';
import { type Agent, sekisho, sekishoJson, startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { inconsistentPins } from '../lib/kernel-objects.ts';
import { atLength } from '../lib/long.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { openWire } from '../lib/raw-socket.ts';
import { managedScene, nth, type Scene } from '../lib/scene.ts';
import { openTable } from '../lib/tables.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

const ROUNDS = atLength(2, 10);
const SHORT = atLength(300, 3000);
/** Of each family; from ports outside the NAT range, so that every one is translated. */
const IDLE = atLength(1000, 10_000);
const FIRST_PORT = 10_000;
const [IDLE_PORT, LOAD_PORT] = [7000, 7001];
const [SMALL, LARGE] = [65_536, 262_144];
const SETTINGS = {
  maps: { ctTcp: SMALL, ctAny: SMALL, nat: SMALL, maxMemoryRatio: 0.2 },
};
const TABLES = ['ctTcp', 'nat'];
const PREVIOUS_PINS = FAMILIES.flatMap((family) =>
  ['ct_tcp', 'snat'].map((table) => `${family}/${table}_previous`),
);

test(`tables that are resized ${2 * ROUNDS} times under traffic, the daemon killed in between`, async (t) => {
  await using scene = await managedScene({ settings: SETTINGS });
  const { topo, world } = scene;
  const [node, client] = [nth(topo.nodes), nth(scene.pods)];
  await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(node.podCIDRs) });
  const idle = await openIdle(scene);
  const ports = await idlePorts(scene);
  const targets = FAMILIES.map((family) => {
    return { host: nth(topo.worldAddresses)[family], port: LOAD_PORT };
  });
  for (const target of targets) await world.echoServe(target);
  const first = mapIds(scene);
  await client.startLoad({ targets, rate: 20_000_000 });

  let agent: Agent = scene.agent;
  for (let round = 0; round < ROUNDS; round++) {
    for (const table of TABLES) await resize(scene, table, LARGE);
    agent = await killWhileShrinking(scene, agent);
  }
  await until(
    `${SHORT} short connections`,
    async () => (await client.loadSoFar()).connections >= SHORT,
    { timeout: 120_000 },
  );
  const report = await client.stopLoad();
  const bytes = report.streams.reduce((sum, { sent }) => sum + sent, 0);
  t.diagnostic(`${report.connections} short connections, ${Math.round(bytes / 1e6)} MB each way`);

  await t.test('no connection broke', async () => {
    assert.deepEqual(
      report.streams.map(({ intact, error }) => ({ intact, error })),
      targets.map(() => ({ intact: true, error: null })),
    );
    assert.deepEqual(report.broken, {});
    assert.equal(report.unanswered, 0);
  });

  await t.test('none changed its port, and the idle ones live', async () => {
    assert.deepEqual(await idlePorts(scene), ports);
    for (const [prefix, peer] of Object.entries(idle)) {
      const group = { prefix, count: IDLE, text: 'still there', timeout: 30_000 };
      assert.deepEqual(await peer.exchangeMany(group), { alive: IDLE, dead: {} });
    }
  });

  await t.test('nothing left bare', async () => {
    const leaks = (await wire.take()).map(({ frame }) => dissect(frame).ip);
    assert.deepEqual(leaks, []);
  });

  await t.test('nothing was evicted, and nothing is left behind', () =>
    assertTidy(t, scene, first),
  );
});

/** The clients; programs of their own for each family, as a process has 20,000 sockets at most. */
async function openIdle({ topo }: Scene): Promise<Record<Family, Peer>> {
  const open = async (family: Family) => {
    const server = topo.use(await startPeer(topo.world));
    const client = topo.use(await startPeer(nth(topo.pods).ns));
    const host = nth(topo.worldAddresses)[family];
    await server.listen({ host, port: IDLE_PORT });
    const group = { prefix: family, count: IDLE, host, port: IDLE_PORT, localPort: FIRST_PORT };
    const census = await client.connectMany({ ...group, timeout: 60_000 });
    assert.deepEqual(census, { alive: IDLE, dead: {} });
    return client;
  };
  return { ipv4: await open('ipv4'), ipv6: await open('ipv6') };
}

/** What the NAT table gives each idle connection, by its own port. */
async function idlePorts({ topo }: Scene): Promise<Record<Family, [number, number][]>> {
  const portsOf = async (family: Family) => {
    using table = openTable(nth(topo.nodes), family, 'snat');
    const forward = (await table.entries()).filter(
      ({ key }) => key.kind === 0 && key.dport === IDLE_PORT,
    );
    assert.equal(forward.length, IDLE);
    return forward
      .map(({ key, translation }): [number, number] => [key.sport, translation.port])
      .sort(([a], [b]) => a - b);
  };
  return { ipv4: await portsOf('ipv4'), ipv6: await portsOf('ipv6') };
}

async function resize({ topo }: Scene, table: string, entries: number): Promise<void> {
  const { code, stderr } = await sekisho(topo, 'map', 'resize', table, `${entries}`);
  assert.equal(code, 0, stderr);
}

/** Ends the daemon once it has begun to resize; the next one finishes, or undoes, what it did. */
async function killWhileShrinking(scene: Scene, agent: Agent): Promise<Agent> {
  const { topo } = scene;
  const resizes = TABLES.map((table) => sekisho(topo, 'map', 'resize', table, `${SMALL}`));
  await until('a resize to begin', () => halfway(scene), { every: 1 });
  await agent.kill9();
  await Promise.all(resizes);
  const next = await startAgent(topo, SETTINGS);
  await until('the resize to end', () => !halfway(scene));
  for (const table of TABLES) await resize(scene, table, SMALL);
  return next;
}

function halfway({ topo }: Scene): boolean {
  return PREVIOUS_PINS.some((pin) => existsSync(join(nth(topo.nodes).bpffs, pin)));
}

function mapIds({ topo }: Scene): number[] {
  return FAMILIES.flatMap((family) =>
    ['ct_tcp', 'snat'].map((table) => {
      using map = openPinnedMap(join(nth(topo.nodes).bpffs, family, table));
      return map?.id ?? assert.fail(`${family}/${table} is not pinned`);
    }),
  );
}

async function assertTidy(t: TestContext, scene: Scene, first: number[]): Promise<void> {
  const maps = await sekishoJson<
    { name: string; capacity: number; created: number | null; evicted: number | null }[]
  >(scene.topo, 'map', 'list');
  const tables = maps.filter(({ created }) => created !== null);
  t.diagnostic(tables.map(({ name, created }) => `${name}: ${created}`).join(', '));
  assert.deepEqual(
    tables.map(({ capacity, evicted }) => [capacity, evicted]),
    tables.map(() => [SMALL, 0]),
  );
  assert.deepEqual(inconsistentPins(nth(scene.topo.nodes)), []);
  assert.equal(halfway(scene), false);
  await until('the first maps to be freed', () =>
    first.every((id) => {
      using map = mapById(id);
      return map === undefined;
    }),
  );
}
