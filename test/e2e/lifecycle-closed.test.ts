import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { type Agent, configure, nodeSettings, sekisho, startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { KIND, openTable } from '../lib/tables.ts';
import { FAMILIES } from '../lib/topology.ts';
import { affordably, breathe, until } from '../lib/wait.ts';

const PORT = 7000;
const FLOOD = { localPort: 20_000, count: 12_000 };

for (const { attach, skip } of ATTACH_MODES) {
  test(`nothing leaves bare while the daemon does what it does (${attach})`, {
    skip,
  }, async (t) => {
    await using scene = await bareScene({ pods: 2 });
    const { topo } = scene;
    const node = nth(topo.nodes);
    await listen(scene);
    const settings = { datapath: { attach } };
    let agent = await startAgent(topo, settings);
    await using wire = await openWire(topo.world, 'eth0', {
      sources: Object.values(node.podCIDRs),
    });
    const assertClosed = async () => {
      await connect(scene);
      assert.deepEqual(
        (await wire.take()).map(({ frame }) => dissect(frame).ip),
        [],
      );
    };

    await t.test('stopping and starting', async () => {
      await during(scene, async () => {
        await agent.stop();
        agent = await startAgent(topo, settings);
      });
      await assertClosed();
    });

    await t.test('reloading', async () => {
      configure(node, { ...settings, conntrack: { timeouts: { any: '90s' } } });
      await during(scene, () => reload(agent));
      await assertClosed();
    });

    await t.test('taking an endpoint and letting it go', async () => {
      const [first] = nodeSettings(node).endpoints as unknown[];
      configure(node, { ...settings, endpoints: [first] });
      const { interface: link, addresses } = nth(topo.pods, 1);
      const late = ['late', '--interface', link];
      for (const address of Object.values(addresses)) late.push('--address', address);
      await during(scene, async () => {
        await reload(agent);
        for (let i = 0; i < 3; i++) {
          const added = await sekisho(topo, 'endpoint', 'add', ...late);
          assert.equal(added.code, 0, added.stderr);
          assert.equal((await sekisho(topo, 'endpoint', 'delete', 'late')).code, 0);
        }
      });
      await assertClosed();
    });

    await t.test('and everything that redirects is detached before what translates', async () => {
      await agent.stop();
      const { code, stdout } = await sekisho(topo, 'cleanup');
      assert.equal(code, 0);
      const detached = stdout.split('\n').filter((line) => line.startsWith('detached'));
      const hooks = detached.map((line) => /_((?:from|to)_[a-z]+)_ipv/.exec(line)?.[1]);
      assert.deepEqual(new Set(hooks.slice(0, 2)), new Set(['from_endpoint']));
      assert.deepEqual(hooks.slice(-2), ['to_netdev', 'to_netdev']);
    });
  });
}

test('addresses that change hands meet nothing of their former owner', async (t) => {
  await using scene = await bareScene({ pods: 2 });
  const { topo } = scene;
  const node = nth(topo.nodes);
  const [one, two] = [nth(topo.pods), nth(topo.pods, 1)];
  await listen(scene);
  const agent = await startAgent(topo);
  await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(node.podCIDRs) });
  for (const family of FAMILIES) {
    using table = openTable(node, family, 'ct_tcp');
    const world = nth(topo.worldAddresses)[family];
    table.insertLive({
      ...{ src: world, dst: one.addresses[family], sport: PORT, dport: 4000 },
      ...{ protocol: 6, kind: KIND.IN },
    });
  }

  await t.test('however busy that one is', async () => {
    const flood = FAMILIES.map((family) =>
      nth(scene.pods).udpFlood({ host: nth(topo.worldAddresses)[family], port: PORT, ...FLOOD }),
    );
    await until('the flood', async () => (await entriesOf(scene, one.addresses.ipv4)) > 100);
    configure(node, {
      endpoints: [
        { name: 'one', interface: one.interface, addresses: Object.values(two.addresses) },
        { name: 'two', interface: two.interface, addresses: Object.values(one.addresses) },
      ],
    });
    await reload(agent);
    await Promise.all(flood);
    for (const family of FAMILIES) {
      assert.equal(await entriesOf(scene, one.addresses[family]), 0);
    }
  });

  await t.test('and no answer to the former owner is taken for one to the new', async () => {
    await two.ns.ip(
      ...FAMILIES.flatMap((family) => {
        const bits = family === 'ipv4' ? 32 : 128;
        return [
          `addr add ${one.addresses[family]}/${bits} dev eth0${family === 'ipv6' ? ' nodad' : ''}`,
          `addr del ${two.addresses[family]}/${bits} dev eth0`,
        ];
      }),
    );
    await topo.node.ip(
      ...FAMILIES.flatMap((family) => [
        `route replace ${one.addresses[family]} dev ${two.interface}`,
        `route replace ${two.addresses[family]} dev ${one.interface}`,
      ]),
    );
    for (const family of FAMILIES) {
      const host = nth(topo.worldAddresses)[family];
      await nth(scene.pods, 1).connect({ tag: family, host, port: PORT, localPort: 4000 });
      const { remoteAddress } = await scene.world.endpoints({ tag: family });
      assert.equal(remoteAddress, node.addresses[family]);
    }
    assert.deepEqual(
      (await wire.take()).map(({ frame }) => dissect(frame).ip),
      [],
    );
  });
});

async function listen({ topo, world }: Scene): Promise<void> {
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    await world.listen({ host, port: PORT });
    await world.udpListen({ host, port: PORT, echo: false });
  }
}

async function connect({ topo, pods }: Scene): Promise<void> {
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    const group = { prefix: family, count: 5, host, port: PORT };
    assert.deepEqual(await nth(pods).connectMany(group), { alive: 5, dead: {} });
  }
}

async function reload(agent: Agent): Promise<void> {
  const reloads = () => agent.logs.filter(({ msg }) => msg === 'configuration reloaded').length;
  const before = reloads();
  agent.signal('SIGHUP');
  await until('the reload', () => reloads() > before);
}

/** Both pods send all the time, whether anything can become of it or not. */
async function during<T>({ topo, pods }: Scene, action: () => Promise<T>): Promise<T> {
  let done = false;
  const senders = pods.flatMap((pod) =>
    FAMILIES.map(async (family) => {
      const host = nth(topo.worldAddresses)[family];
      while (!done) {
        await pod.udpFlood({ host, port: PORT, count: affordably(50) });
        await breathe();
      }
    }),
  );
  try {
    return await action();
  } finally {
    done = true;
    await Promise.all(senders);
  }
}

/** Entries of all tables that name an address. */
async function entriesOf({ topo }: Scene, address: string): Promise<number> {
  let count = 0;
  for (const name of ['ct_tcp', 'ct_any', 'snat'] as const) {
    using table = openTable(nth(topo.nodes), address.includes(':') ? 'ipv6' : 'ipv4', name);
    const entries = await table.entries();
    count += entries.filter(({ key, translation }) =>
      [key.src, key.dst, name === 'snat' && translation.address].includes(address),
    ).length;
  }
  return count;
}
