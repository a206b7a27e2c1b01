import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { readAffinity } from '../../agent/tables/affinity.ts';
import { datapathNow, readNodeState } from '../../agent/tables/clock.ts';
import { sekishoJson, startAgent } from '../lib/daemon.ts';
import { nth } from '../lib/scene.ts';
import { type Addresses, FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { assertUndisturbed, homesIn } from './service-course.ts';
import {
  applyServices,
  backendOf,
  type Managed,
  openStage,
  routePublic,
  type Stage,
} from './service-stage.ts';

const CLIENTS = 8;
/** Connections of each client, from as many ports. */
const CONNECTIONS = 4;
const PORT = 80;
const BRIEF = 3;
/** Chosen at random, so that only the affinity leads a client back. */
const STICKY: Record<string, { address: Addresses; timeout: string }> = {
  long: { address: { ipv4: '198.51.100.20', ipv6: '2001:db8:9::20' }, timeout: '1h' },
  brief: { address: { ipv4: '198.51.100.21', ipv6: '2001:db8:9::21' }, timeout: `${BRIEF}s` },
};
/** Chosen by Maglev, with affinity and without. */
const NODE_PORTS = { address: 30_001, port: 30_002 };
const MOVING: Addresses = { ipv4: '198.51.100.22', ipv6: '2001:db8:9::22' };

/** Of the next connection: no two come from the same port, which would lead back as well. */
let stickyPort = 10_000;

const HEAVIEST = { weight: 65_535 };

type Plan = Record<string, object | null>;

test('a client has the backend that it had', async (t) => {
  await using stage = await openStage({}, CLIENTS);
  await applySticky(stage, {});
  await checkKept(t, stage);
  await checkForgotten(t, stage);
});

test('a client has the same backend on every node', async (t) => {
  await using stage = await openStage({}, CLIENTS);
  const { servers, first, second } = stage;
  const services = FAMILIES.flatMap((family) => {
    const backends = servers.map((server) => backendOf(server, family));
    const frontends = ['TCP', 'UDP'].map((protocol) => {
      return { address: MOVING[family], port: PORT, protocol };
    });
    const { address, port } = NODE_PORTS;
    const type = 'NodePort';
    return [
      { name: `address-${family}`, type, nodePort: address, backends, sessionAffinity: {} },
      { name: `port-${family}`, type, nodePort: port, backends },
      { name: `dsr-${family}`, type: 'LoadBalancer', frontends, backends, forwarding: 'dsr' },
    ];
  });
  for (const managed of [first, second]) await applyServices(managed, services);

  for (const family of FAMILIES) {
    await t.test(`by address and port, and with affinity by its address (${family})`, async () => {
      const ask = ({ node }: Managed, port: number) =>
        homesAt(stage, { family, host: node.addresses[family], port, localPort: 21_000 });
      const each = await ask(first, NODE_PORTS.port);
      assert.deepEqual(await ask(second, NODE_PORTS.port), each);
      assert.ok(each.some((homes) => new Set(homes).size > 1));
      const one = await ask(first, NODE_PORTS.address);
      assert.deepEqual(await ask(second, NODE_PORTS.address), one);
      for (const homes of one) assert.equal(new Set(homes).size, 1);
      assert.ok(new Set(one.flat()).size > 1);
    });
  }

  await t.test('so that the network may send it to another node in between', async () => {
    const targets = FAMILIES.map((family, i) => {
      const localPort = 22_000 + 1000 * i;
      return { target: family, host: MOVING[family], port: PORT, localPort };
    });
    await stage.world.startVisits({ targets });
    await stage.world.visitsCameRound();
    for (const { node } of [second, first]) {
      await routePublic(stage.scene.topo, node);
      await stage.world.visitsCameRound();
    }
    const visitors = await stage.world.stopVisits();
    assertUndisturbed({ visitors, before: 0, changing: 0, after: 0 });
    const homes = new Set(visitors.flatMap((visitor) => homesIn(visitor)));
    assert.equal(homes.size, servers.length);
  });
});

/** The affinity holds as long as the datapath and the backend stay. */
async function checkKept(t: TestContext, stage: Stage): Promise<void> {
  const { first } = stage;
  let homes: string[] = [];
  const assertSame = async () => assert.deepEqual(await stickyHomes(stage, 'long'), homes);

  await t.test('from every port of its address', async () => {
    homes = await stickyHomes(stage, 'long');
    assert.ok(new Set(homes).size > 1, `${homes}`);
    await assertSame();
  });

  await t.test('while the daemon is dead, and when it is there again', async () => {
    await first.agent.kill9();
    await assertSame();
    await startAgain(stage, first);
    await assertSame();
  });

  await t.test('after a restart', async () => {
    await first.agent.stop();
    await startAgain(stage, first);
    await assertSame();
  });

  for (const [what, change] of [
    ['leaves', null],
    ['is drained', { state: 'terminating' }],
    ['loses its weight', { weight: 0 }],
  ] as const) {
    await t.test(`until the backend ${what}: then another, for good`, async () => {
      const gone = nth(homes);
      await applySticky(stage, { [gone]: change });
      const others = await stickyHomes(stage, 'long');
      for (const [i, home] of others.entries()) {
        if (homes[i] === gone) assert.notEqual(home, gone);
        else assert.equal(home, homes[i]);
      }
      homes = others;
      await applySticky(stage, {});
      await assertSame();
    });
  }
}

/** A backend that is outweighed has who comes back to it, and nobody else. */
async function checkForgotten(t: TestContext, stage: Stage): Promise<void> {
  await t.test('as long as the timeout says', async () => {
    const homes = {
      long: await stickyHomes(stage, 'long'),
      brief: await stickyHomes(stage, 'brief', 1),
    };
    const outweighed = homes.brief.find((name) => homes.long.includes(name));
    assert.ok(outweighed, JSON.stringify(homes));
    const others = stage.servers.filter(({ name }) => name !== outweighed);
    await applySticky(stage, Object.fromEntries(others.map(({ name }) => [name, HEAVIEST])));
    for (const family of FAMILIES) await untilExpired(stage, family);
    assert.deepEqual(await stickyHomes(stage, 'long'), homes.long);
    const after = await stickyHomes(stage, 'brief', 1);
    assert.ok(!after.includes(outweighed), `${outweighed} among ${after}`);
  });
}

async function untilExpired({ scene, first }: Stage, family: Family): Promise<void> {
  const { bpffs } = first.node;
  const name = `brief-${family}`;
  const { ids } = await sekishoJson<{ ids: number[] }>(scene.topo, 'service', 'get', name);
  using map = openPinnedMap(join(bpffs, family, 'affinity'));
  assert.ok(map);
  await until('the affinity to expire', async () => {
    const rows = (await readAffinity(map, family)).filter((row) => ids.includes(row.service_id));
    assert.equal(rows.length, CLIENTS);
    const now = datapathNow(readNodeState(bpffs));
    return rows.every(({ last_used }) => last_used + BRIEF <= now);
  });
}

async function startAgain({ scene }: Stage, managed: Managed): Promise<void> {
  managed.agent = await startAgent(scene.topo, managed.settings, managed.node);
}

function applySticky({ first, servers }: Stage, plan: Plan): Promise<void> {
  const services = FAMILIES.flatMap((family) =>
    Object.entries(STICKY).map(([name, { address, timeout }]) => ({
      name: `${name}-${family}`,
      type: 'LoadBalancer',
      frontends: [{ address: address[family], port: PORT }],
      backends: servers
        .filter((server) => plan[server.name] !== null)
        .map((server) => backendOf(server, family, plan[server.name] ?? {})),
      algorithm: 'random',
      sessionAffinity: { timeout },
    })),
  );
  return applyServices(first, services);
}

/** The one backend of each client, in one family after the other. */
async function stickyHomes(stage: Stage, name: string, count = CONNECTIONS): Promise<string[]> {
  const all: string[] = [];
  for (const family of FAMILIES) {
    const host = STICKY[name]?.address[family] ?? '';
    const localPort = stickyPort;
    stickyPort += count;
    for (const homes of await homesAt(stage, { family, host, port: PORT, localPort, count })) {
      assert.equal(new Set(homes).size, 1, `${homes}`);
      all.push(nth(homes));
    }
  }
  return all;
}

interface Question {
  family: Family;
  host: string;
  port: number;
  /** First of each client's ports. */
  localPort: number;
  count?: number;
}

/** Who answers the connections of each client. */
function homesAt({ scene, world }: Stage, question: Question): Promise<string[][]> {
  const { family, host, port, localPort, count = CONNECTIONS } = question;
  return Promise.all(
    scene.topo.worldAddresses.map(async (addresses) => {
      const target = { host, port, localAddress: addresses[family] };
      const targets = Array.from({ length: count }, (_, i) => {
        return { ...target, localPort: localPort + i };
      });
      return (await world.askEach({ targets })).map(({ by }) => by);
    }),
  );
}
