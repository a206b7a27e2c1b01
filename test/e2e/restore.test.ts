import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Restored, readDrops, readRestored } from '../lib/counts.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import {
  type Flow,
  keyToWorld,
  openTables,
  type RecordName,
  type Tables,
  trackFlow,
} from './flow.ts';

/** A row of the restore matrix: what is lost, who speaks next, what brings it back. */
interface Row {
  lost: RecordName[];
  next: 'client' | 'server';
  /** Counters that move; none where the packet cannot be mapped and the host's answer is held. */
  counted: ('forward' | 'reverse' | 'adopted')[];
  heldBack?: true;
  /** Only in another second does this packet look for its halves, and before its answer does. */
  later?: true;
}

const ROWS: Row[] = [
  { lost: ['reverse'], next: 'client', counted: ['reverse'] },
  { lost: ['reverse'], next: 'server', counted: ['reverse'], heldBack: true },
  { lost: ['forward'], next: 'server', counted: ['forward'], later: true },
  { lost: ['forward'], next: 'client', counted: ['adopted'], later: true },
  { lost: ['forward', 'reverse'], next: 'client', counted: ['forward', 'reverse'] },
  { lost: ['forward', 'reverse'], next: 'server', counted: ['forward', 'reverse'], heldBack: true },
  { lost: ['ct'], next: 'client', counted: [] },
  { lost: ['ct'], next: 'server', counted: [], later: true },
  { lost: ['ct', 'forward'], next: 'client', counted: ['adopted'] },
  { lost: ['ct', 'forward'], next: 'server', counted: ['forward'], later: true },
  { lost: ['ct', 'reverse'], next: 'client', counted: ['reverse'] },
  { lost: ['ct', 'reverse'], next: 'server', counted: ['reverse'], heldBack: true },
  { lost: ['ct', 'forward', 'reverse'], next: 'client', counted: [] },
  { lost: ['ct', 'forward', 'reverse'], next: 'server', counted: [], heldBack: true },
];

/** How the flow came by its port. */
const PORTS = ['kept', 'outside the range', 'held by another pod'] as const;
type Port = (typeof PORTS)[number];

const SERVER_PORT = 7000;
const PATIENCE = 6000;
/** A half looks for its partner with the first packet of a second: once this has passed, anew. */
const RECHECK = 1100;

let lastPort = 0;

/** The daemon is gone, since its passes bring lost halves back as well. */
test('a connection survives the loss of its records', { concurrency: 2 }, async (t) => {
  await using scene = await managedScene({ pods: 2 });
  await scene.agent.stop();
  await Promise.all(
    FAMILIES.map((family) =>
      t.test(family, { concurrency: 1 }, (t) => checkFamily(t, scene, family)),
    ),
  );
});

async function checkFamily(t: TestContext, scene: ManagedScene, family: Family): Promise<void> {
  const host = nth(scene.topo.worldAddresses)[family];
  await scene.world.listen({ host, port: SERVER_PORT });
  await scene.world.udpListen({ host, port: SERVER_PORT });
  using tables = openTables(scene, family);
  for (const port of PORTS) {
    for (const row of ROWS) {
      const name = `port ${port}: ${row.lost.join(' and ')} lost, ${row.next} speaks`;
      await t.test(`TCP, ${name}`, () => checkTcp(scene, tables, family, port, row));
      await t.test(`UDP, ${name}`, () => checkUdp(scene, tables, family, port, row));
    }
  }
}

async function checkTcp(
  scene: ManagedScene,
  tables: Tables,
  family: Family,
  port: Port,
  row: Row,
): Promise<void> {
  const client = nth(scene.pods);
  const flow = await openTcp(scene, tables, family, port);
  const { tag } = flow;
  const before = readRestored(nth(scene.topo.nodes), family);
  flow.lose(row.lost);
  if (row.later) await sleep(RECHECK);
  if (row.heldBack) {
    await untilHeldBack(scene, family, () => scene.world.say({ tag, text: 'server' }));
    await client.say({ tag, text: 'client' });
    assert.equal(await client.hear({ tag, timeout: PATIENCE }), 'server');
  } else if (row.next === 'server') {
    await scene.world.say({ tag, text: 'server' });
    assert.equal(await client.hear({ tag, timeout: PATIENCE }), 'server');
  }
  await client.exchange({ tag, text: 'after', timeout: PATIENCE });
  await settle(flow, () => client.exchange({ tag, timeout: PATIENCE }));
  assertCounted(scene, family, row, before);
  const { remotePort } = await scene.world.endpoints({ tag });
  assert.equal(remotePort, flow.translation.port);
  await client.reset({ tag });
}

async function checkUdp(
  scene: ManagedScene,
  tables: Tables,
  family: Family,
  port: Port,
  row: Row,
): Promise<void> {
  const client = nth(scene.pods);
  const flow = await openUdp(scene, tables, family, port);
  const { tag } = flow;
  const before = readRestored(nth(scene.topo.nodes), family);
  flow.lose(row.lost);
  if (row.later) await sleep(RECHECK);
  if (row.heldBack) {
    await untilHeldBack(scene, family, () => scene.world.udpSay({ tag, text: 'server' }));
  } else if (row.next === 'server') {
    await scene.world.udpSay({ tag, text: 'server' });
    assert.equal(await client.udpHear({ tag, timeout: PATIENCE }), 'server');
  }
  const again = () => client.udpExchange({ tag, text: 'after', attempts: 3, timeout: 1200 });
  await again();
  await settle(flow, again);
  assertCounted(scene, family, row, before);
  const { remotePort } = await scene.world.udpEndpoints({ tag });
  assert.equal(remotePort, flow.translation.port);
  await client.udpClose({ tag });
}

/** Speaks until the host's answer to a packet that cannot be mapped has been dropped. */
async function untilHeldBack(
  scene: ManagedScene,
  family: Family,
  speak: () => Promise<unknown>,
): Promise<void> {
  const held = () => readDrops(nth(scene.topo.nodes), family, 'half_lost');
  const before = held();
  await speak();
  await until("the host's answer to be held back", () => held() > before);
}

/** Speaks on until the flow's records are complete, and says what is wrong if they never are. */
async function settle(flow: Flow, speak: () => Promise<unknown>): Promise<void> {
  const complete = () => flow.has('forward') && flow.has('reverse') && flow.has('ct');
  await until(
    'complete records',
    async () => {
      await speak();
      return complete();
    },
    { timeout: PATIENCE, every: 200 },
  ).catch(() => {});
  flow.assertComplete();
}

function assertCounted(
  scene: ManagedScene,
  family: Family,
  { counted }: Row,
  before: Restored,
): void {
  const after = readRestored(nth(scene.topo.nodes), family);
  for (const half of counted) assert.ok(after[half] > before[half], `${half} was not counted`);
}

async function openTcp(scene: ManagedScene, tables: Tables, family: Family, port: Port) {
  const { localPort, tag } = nextFlow(port);
  const host = nth(scene.topo.worldAddresses)[family];
  const target = { host, port: SERVER_PORT, localPort };
  if (port === 'held by another pod')
    await nth(scene.pods, 1).connect({ tag: `${tag}x`, ...target });
  await nth(scene.pods).connect({ tag, ...target });
  return checkPort(
    trackFlow(tables, tag, keyToWorld(scene, family, 6, { sport: localPort, dport: SERVER_PORT })),
    port,
  );
}

async function openUdp(scene: ManagedScene, tables: Tables, family: Family, port: Port) {
  const { localPort, tag } = nextFlow(port);
  const host = nth(scene.topo.worldAddresses)[family];
  const target = { host, port: SERVER_PORT, localPort };
  if (port === 'held by another pod') {
    await nth(scene.pods, 1).udpOpen({ tag: `${tag}x`, ...target });
    await nth(scene.pods, 1).udpExchange({ tag: `${tag}x` });
  }
  await nth(scene.pods).udpOpen({ tag, ...target });
  await nth(scene.pods).udpExchange({ tag });
  return checkPort(
    trackFlow(tables, tag, keyToWorld(scene, family, 17, { sport: localPort, dport: SERVER_PORT })),
    port,
  );
}

function nextFlow(port: Port) {
  lastPort++;
  const localPort = (port === 'outside the range' ? 10_000 : 40_000) + lastPort;
  return { localPort, tag: `flow${lastPort}` };
}

function checkPort(flow: Flow, port: Port): Flow {
  const kept = flow.translation.port === flow.key.sport;
  assert.equal(kept, port === 'kept', `translated to port ${flow.translation.port}`);
  flow.assertComplete();
  return flow;
}
