import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readDrops } from '../lib/counts.ts';
import { nth } from '../lib/scene.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { openTables } from './flow.ts';
import { openServiceFlow, type RecordName, type ServiceFlow } from './service-flow.ts';
import { PATHS, type PathName, type ServedScene, servedScene } from './service-scene.ts';
import type { Protocol } from './talk.ts';
import { type Passed, type Tap, tap } from './tap.ts';

/** A packet of the backend that no record knows, and the node that drops it. */
interface Drop {
  reason: 'service_state_lost' | 'half_lost';
  at: 'here' | 'there';
}

/**
 * What becomes of the backend's next packet: the client hears it; or it is dropped; or a datagram, of which nobody knows
 * what it answers, goes on as one of a flow that the backend begins.
 */
type Outcome = 'heard' | 'stray' | Drop;

/** Records that are lost, and what the backend's next packet meets in either protocol. */
type Loss = [lost: RecordName[], tcp: Outcome, udp: Outcome];

const HERE: Drop = { reason: 'service_state_lost', at: 'here' };
const THERE: Drop = { reason: 'service_state_lost', at: 'there' };
const HELD: Drop = { reason: 'half_lost', at: 'here' };

const BACKEND_HERE: Loss[] = [
  [['svc'], 'heard', 'heard'],
  [['out'], 'heard', 'heard'],
  [['in'], 'heard', 'heard'],
  [['out', 'in'], HERE, 'stray'],
  [['svc', 'out', 'in'], HERE, 'stray'],
];

/** Whatever is lost, the client's next packet brings it back: there is no column for that. */
const LOSSES: Record<PathName, Loss[]> = {
  'cluster address, backend here': BACKEND_HERE,
  'cluster address, backend elsewhere': [
    [['svc'], 'heard', 'heard'],
    [['out'], HERE, 'stray'],
    [['in'], THERE, 'heard'],
    [['out', 'in'], THERE, 'stray'],
    [['svc', 'out', 'in'], THERE, 'stray'],
  ],
  'cluster address, backend in the world': [
    [['svc'], 'heard', 'heard'],
    [['out'], 'heard', 'heard'],
    [['forward'], 'heard', 'heard'],
    [['reverse'], HELD, HELD],
    [['forward', 'reverse'], HELD, HELD],
    [['out', 'forward'], 'heard', 'heard'],
    [['out', 'reverse'], HELD, HELD],
    [['svc', 'out', 'forward', 'reverse'], HELD, HELD],
  ],
  hairpin: [
    [['svc'], 'heard', 'heard'],
    [['in'], HERE, HERE],
    [['svc', 'in'], HERE, HERE],
  ],
  'node port, backend here': BACKEND_HERE,
  'load balancer, backend here': BACKEND_HERE,
  'node port, SNAT': [
    [['svc'], 'heard', 'heard'],
    [['out'], 'heard', 'heard'],
    [['in'], THERE, 'heard'],
    [['out', 'in'], THERE, 'heard'],
    [['forward'], 'heard', 'heard'],
    [['reverse'], HELD, HELD],
    [['forward', 'reverse'], HELD, HELD],
    [['out', 'forward'], 'heard', 'heard'],
    [['out', 'reverse'], HELD, HELD],
    [['svc', 'out', 'forward', 'reverse'], HELD, HELD],
    [['svc', 'out', 'in', 'forward', 'reverse'], THERE, HELD],
  ],
  'load balancer, DSR': [
    [['svc'], 'heard', 'heard'],
    [['out'], 'heard', 'heard'],
    [['in'], 'heard', 'heard'],
    [['out', 'in'], THERE, 'stray'],
    [['svc', 'out', 'in'], THERE, 'stray'],
  ],
};

interface Row {
  path: PathName;
  protocol: Protocol;
  lost: RecordName[];
  /** Undefined: the client speaks first. */
  outcome: Outcome | undefined;
}

const ROWS: Row[] = Object.entries(LOSSES).flatMap(([name, losses]) =>
  losses.flatMap(([lost, tcp, udp]) => {
    const path = name as PathName;
    return [
      { path, protocol: 'tcp', lost, outcome: undefined },
      { path, protocol: 'tcp', lost, outcome: tcp },
      { path, protocol: 'udp', lost, outcome: undefined },
      { path, protocol: 'udp', lost, outcome: udp },
    ] satisfies Row[];
  }),
);

/** Records follow each other once a second: once this has passed, with the next packet. */
const RECHECK = 1100;
/** Below the NAT range, where flows do not keep their port. */
const FIRST_PORT = { ipv4: 20_000, ipv6: 22_000 };

for (const routing of ['fast', 'stack']) {
  test(`connections to services survive the loss of their records (${routing} routing)`, {
    concurrency: 2,
  }, async (t) => {
    await using scene = await servedScene({ routing });
    await using wires = await openWires(scene);
    const flows = await Promise.all(FAMILIES.map((family) => checkFamily(t, scene, wires, family)));
    await checkWires(t, scene, wires, flows.flat());
  });
}

/** Where clients and backends are plugged in. */
interface Wires extends AsyncDisposable {
  pod: Tap;
  neighbour: Tap;
  elsewhere: Tap;
  world: Tap;
}

interface Opened {
  family: Family;
  flow: ServiceFlow;
  row: Row;
}

async function openWires({ here, there, topo }: ServedScene): Promise<Wires> {
  await using stack = new AsyncDisposableStack();
  const open = async (ns: Parameters<typeof tap>[0]) => stack.use(await tap(ns, 'eth0'));
  const wires = {
    pod: await open(nth(here.pods).ns),
    neighbour: await open(nth(here.pods, 1).ns),
    elsewhere: await open(nth(there.pods).ns),
    world: await open(topo.world),
  };
  const kept = stack.move();
  return { ...wires, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function checkFamily(
  t: TestContext,
  scene: ServedScene,
  wires: Wires,
  family: Family,
): Promise<Opened[]> {
  const opened: Opened[] = [];
  await t.test(family, { concurrency: 1 }, async (t) => {
    using here = openTables(scene, family, scene.here);
    using there = openTables(scene, family, scene.there);
    const tables = { family, here, there };
    for (const [i, row] of ROWS.entries()) {
      const port = FIRST_PORT[family] + i;
      const flow = await openServiceFlow(scene, tables, row.path, row.protocol, port);
      opened.push({ family, flow, row });
    }
    await sleep(RECHECK);
    for (const one of opened) {
      const { path, protocol, lost, outcome } = one.row;
      const speaks = outcome ? 'backend' : 'client';
      const name = `${protocol}, ${path}: ${lost.join(', ')} lost, ${speaks} speaks`;
      await t.test(name, () => checkRow(scene, wires, one));
    }
  });
  return opened;
}

async function checkRow(scene: ServedScene, wires: Wires, { family, flow, row }: Opened) {
  const { lost, outcome, protocol } = row;
  flow.lose(lost);
  if (outcome === 'heard') {
    await flow.backendSays('backend');
    assert.equal(await flow.clientHears(), 'backend');
    // nobody but the client knows which backend it has, and it has not spoken yet
    const back = lost.filter((name) => name !== 'svc');
    if (protocol === 'udp') assert.deepEqual(flow.missing(back), []);
  } else if (outcome !== undefined) {
    await goAstray(scene, wires, family, flow, outcome);
    await flow.recover('backend');
  }
  await flow.exchange('after');
  flow.assertWhole();
  await flow.assertAlive();
}

/** The backend speaks, until what it says has gone where it goes. */
async function goAstray(
  scene: ServedScene,
  wires: Wires,
  family: Family,
  flow: ServiceFlow,
  outcome: Drop | 'stray',
): Promise<void> {
  if (outcome === 'stray') {
    await flow.backendSays('backend');
    const wire = wires[PATHS[flow.path].client];
    await until('a stray datagram', async () => {
      const passed = await wire.passed();
      return passed.some((frame) => isTo(frame, flow) && !isFrom(frame, flow));
    });
    return;
  }
  const dropped = () => readDrops(scene[outcome.at], family, outcome.reason);
  const before = dropped();
  await flow.backendSays('backend');
  await until(
    `a drop: ${outcome.reason}`,
    async () => {
      if (dropped() > before) return true;
      // the kernel does not send an error for every datagram; TCP speaks again by itself
      if (flow.protocol === 'udp') await flow.backendSays('backend');
      return false;
    },
    { every: 100 },
  );
}

async function checkWires(
  t: TestContext,
  scene: ServedScene,
  wires: Wires,
  opened: readonly Opened[],
): Promise<void> {
  const all = await Promise.all(
    [wires.pod, wires.neighbour, wires.elsewhere, wires.world].map((wire) => wire.passed()),
  );
  await t.test('no connection was reset', () => {
    const resets = all.flat().filter(({ tcp }) => `${tcp?.flags}`.includes('RST'));
    assert.deepEqual(resets, []);
  });
  await t.test('nothing came to the world from an address of a pod', async () => {
    const { here, there } = scene;
    const pods = [here, there].flatMap(({ pods }) => pods.map(({ addresses }) => addresses));
    const sources = new Set<unknown>(pods.flatMap((addresses) => Object.values(addresses)));
    assert.ok(sources.size > 0);
    const leaked = (await wires.world.passed()).filter(({ ip }) => sources.has(ip?.src));
    assert.deepEqual(leaked, []);
  });
  await t.test('clients heard their frontend, and nobody else', async () => {
    const passed = { pod: await wires.pod.passed(), world: await wires.world.passed() };
    for (const { flow, row } of opened) {
      const heard = passed[PATHS[flow.path].client].filter((frame) => isTo(frame, flow));
      assert.ok(heard.some((frame) => isFrom(frame, flow)));
      const others = heard.filter((frame) => !isFrom(frame, flow));
      assert.equal(others.length, row.outcome === 'stray' ? 1 : 0, JSON.stringify(others));
    }
  });
}

/** Is a packet one that the flow's client gets? Ports are no other flow's. */
function isTo(frame: Passed, { protocol, localPort, frontend }: ServiceFlow): boolean {
  const version = frontend.address.includes(':') ? 6 : 4;
  const comes = frame.direction === 'in' && frame.ip?.version === version;
  return comes && frame[protocol]?.dport === localPort;
}

function isFrom(frame: Passed, { protocol, frontend }: ServiceFlow): boolean {
  return frame.ip?.src === frontend.address && frame[protocol]?.sport === frontend.port;
}
