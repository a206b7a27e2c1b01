import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readDrops } from '../lib/counts.ts';
import { sekisho, sekishoJson, sekishoText, startAgent } from '../lib/daemon.ts';
import { bareScene, type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { KIND } from '../lib/tables.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { openTables, trackFlow } from './flow.ts';

const PORT = 7000;
/** A half looks for its partner once a second. */
const RECHECK = 1100;

test('a port belongs to one flow at a time', async (t) => {
  await using scene = await managedScene({ pods: 2 });
  for (const family of FAMILIES) {
    const host = nth(scene.topo.worldAddresses)[family];
    await scene.world.listen({ host, port: PORT });
    await scene.world.udpListen({ host, port: PORT });

    await t.test(`the node's own flow yields to a pod's (${family})`, async () => {
      const target = { host, port: PORT, localPort: 45_000 };
      await nth(scene.pods).connect({ tag: `pod-${family}`, ...target });
      await scene.node.connect({ tag: `node-${family}`, ...target });
      assert.equal(await seenPort(scene, `pod-${family}`), 45_000);
      assert.notEqual(await seenPort(scene, `node-${family}`), 45_000);
      await nth(scene.pods).exchange({ tag: `pod-${family}` });
      await scene.node.exchange({ tag: `node-${family}` });
      const stdout = await sekishoText(scene.topo, 'nat', 'list', '--sport', '45000');
      const own = nth(scene.topo.nodes).addresses[family];
      const line = stdout.split('\n').find((text) => text.includes(own) && /XLATE_SRC/.test(text));
      assert.match(stdout, /NeedsCT=1$/m, line);
    });

    await t.test(`a pod's flow yields to a socket of the node (${family})`, async () => {
      const any = family === 'ipv4' ? '0.0.0.0' : '::';
      await scene.node.listen({ host: any, port: 46_000 });
      await scene.node.udpListen({ host: any, port: 46_000 });
      const target = { host, port: PORT, localPort: 46_000 };
      const tag = `yields-${family}`;
      await nth(scene.pods).connect({ tag, ...target });
      assert.notEqual(await seenPort(scene, tag), 46_000);
      await nth(scene.pods).udpOpen({ tag, ...target });
      await nth(scene.pods).udpExchange({ tag });
      assert.notEqual((await scene.world.udpEndpoints({ tag })).remotePort, 46_000);
    });

    await t.test(`a flow whose port was taken moves, and takes it from nobody (${family})`, () =>
      checkTaken(scene, family),
    );
  }
});

async function checkTaken(scene: ManagedScene, family: Family): Promise<void> {
  const [first, second] = [nth(scene.pods), nth(scene.pods, 1)];
  const target = {
    host: nth(scene.topo.worldAddresses)[family],
    port: PORT,
    localPort: 47_000,
  };
  const [loser, taker] = [`loser-${family}`, `taker-${family}`];
  await first.udpOpen({ tag: loser, ...target });
  await first.udpExchange({ tag: loser });
  using tables = openTables(scene, family);
  trackFlow(tables, loser, {
    src: nth(scene.topo.pods).addresses[family],
    dst: target.host,
    sport: target.localPort,
    dport: PORT,
    protocol: 17,
    kind: KIND.OUT,
  }).lose(['reverse']);
  await second.udpOpen({ tag: taker, ...target });
  await second.udpExchange({ tag: taker });
  assert.equal((await scene.world.udpEndpoints({ tag: taker })).remotePort, 47_000);

  await sleep(RECHECK);
  await first.udpExchange({ tag: loser, attempts: 3 });
  await second.udpExchange({ tag: taker });

  assert.notEqual((await scene.world.udpEndpoints({ tag: loser })).remotePort, 47_000);
  assert.equal((await scene.world.udpEndpoints({ tag: taker })).remotePort, 47_000);
}

test('a range that is used up', async (t) => {
  const settings = { masquerade: { ports: { min: 40_000, max: 40_007 } } };
  await using scene = await managedScene({ settings });
  const [node, client] = [nth(scene.topo.nodes), nth(scene.pods)];
  for (const family of FAMILIES) {
    const host = nth(scene.topo.worldAddresses)[family];
    await scene.world.listen({ host, port: PORT });
    await scene.world.listen({ host, port: PORT + 1 });
    const group = { prefix: family, count: 8 };
    const target = { host, port: PORT };

    await t.test(`serves as many flows as it has ports (${family})`, async () => {
      assert.deepEqual(await client.connectMany({ ...group, ...target }), { alive: 8, dead: {} });
    });

    await t.test(`refuses further ones with a reason (${family})`, async () => {
      const refused = client.connectMany({ prefix: 'more', count: 4, ...target, timeout: 400 });
      assert.deepEqual(await refused, { alive: 0, dead: { timeout: 4 } });
      assert.ok(readDrops(node, family, 'nat_no_port') > 0);
      assert.ok(readDrops(node, family, 'nat_full') > 0);
    });

    await t.test(`does not disturb those that have a port (${family})`, async () => {
      assert.deepEqual(await client.exchangeMany(group), { alive: 8, dead: {} });
    });

    await t.test(`is another one towards another destination (${family})`, async () => {
      await client.connect({ tag: `other-${family}`, host, port: PORT + 1 });
    });

    await t.test(`is shown as full (${family})`, async () => {
      const stdout = await sekishoText(scene.topo, 'nat', 'ports', '--top', '2');
      const remote = host.includes(':') ? `[${host}]:${PORT}` : `${host}:${PORT}`;
      const line = stdout.split('\n').find((text) => text.includes(` ${remote} `));
      assert.match(line ?? stdout, / 8 +8 +100\.0%$/);
    });
  }
});

test('the flows of an endpoint that is deleted are gone at once, and no others', async () => {
  await using scene = await bareScene({ pods: 2 });
  const { topo } = scene;
  await startAgent(topo, { endpoints: [] });
  for (const { name, interface: device, addresses } of topo.pods) {
    const words = ['--interface', device, '--address', ...Object.values(addresses)];
    const { code, stderr } = await sekisho(topo, 'endpoint', 'add', name, ...words);
    assert.equal(code, 0, stderr);
  }
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    await scene.world.listen({ host, port: PORT });
    const opened = (pod: number) =>
      nth(scene.pods, pod).connect({ tag: `${pod}-${family}`, host, port: PORT });
    await Promise.all([opened(0), opened(1)]);
  }

  const { code, stderr } = await sekisho(topo, 'endpoint', 'delete', nth(topo.pods).name);
  assert.equal(code, 0, stderr);

  const owners = await sekishoJson<{ source: { address: string } }[]>(topo, 'ct', 'list');
  const gone = Object.values(nth(topo.pods).addresses);
  assert.deepEqual(
    owners.filter(({ source }) => gone.includes(source.address)),
    [],
  );
  for (const family of FAMILIES) await nth(scene.pods, 1).exchange({ tag: `1-${family}` });
});

async function seenPort(scene: ManagedScene, tag: string): Promise<number> {
  return (await scene.world.endpoints({ tag })).remotePort;
}
