import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { configure, sekisho, sekishoOn, startAgent } from '../lib/daemon.ts';
import { fetchPage, scrape } from '../lib/metrics.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';

const PORT = 7000;

for (const { attach, skip } of ATTACH_MODES) {
  test(`connections do not notice, on ${attach}`, { skip }, async (t) => {
    const settings = { datapath: { attach } };
    await using scene = await managedScene({ settings });
    const [node, client] = [nth(scene.topo.nodes), nth(scene.pods)];
    for (const family of FAMILIES) {
      const host = nth(scene.topo.worldAddresses)[family];
      await scene.world.listen({ host, port: PORT });
      await client.connectMany({ prefix: family, count: 20, host, port: PORT, localPort: 10_000 });
    }
    let { agent } = scene;

    await t.test('a daemon that is killed', async () => {
      await agent.kill9();
      await assertTraffic(scene, 'killed');
      const { stdout, code } = await sekisho(scene.topo, 'ct', 'list', '--proto', 'tcp');
      assert.equal(code, 0);
      assert.match(stdout, /TCP OUT /);
      agent = await startAgent(scene.topo, settings);
      await assertTraffic(scene, 'restarted');
    });

    await t.test('a daemon that is stopped and started', async () => {
      const hooks = readdirSync(join(node.bpffs, 'links')).sort();
      assert.equal(await agent.stop(), 0);
      assert.deepEqual(readdirSync(join(node.bpffs, 'links')).sort(), hooks);
      await assertTraffic(scene, 'stopped');
      agent = await startAgent(scene.topo, settings);
      await assertTraffic(scene, 'started');
    });

    await t.test('a second daemon, which is refused', async () => {
      const { code, stderr } = await sekisho(scene.topo, 'agent');
      assert.equal(code, 1);
      assert.match(stderr, /^sekisho: [^\n]+\n$/);
      await assertTraffic(scene, 'refused');
    });

    await t.test('a collection', async () => {
      const { stdout, code } = await sekisho(scene.topo, 'gc', 'run');
      assert.equal(code, 0);
      assert.notEqual(stdout, '');
      await assertTraffic(scene, 'collected');
    });
  });
}

test('the daemon answers probes and counts what it does', async () => {
  await using scene = await managedScene();
  const host = nth(scene.topo.worldAddresses).ipv4;
  await scene.world.listen({ host, port: PORT });
  await nth(scene.pods).connect({ tag: 'one', host, port: PORT });
  await fetchPage(scene.topo, '/healthz');
  await fetchPage(scene.topo, '/readyz');
  const metrics = await scrape(scene.topo);
  assert.ok(metrics.sum('sekisho_datapath_packets_total', { hook: 'to_netdev' }) > 0);
  assert.ok(metrics.text.includes('sekisho_nat_restored_total{'));
  const { code, stdout } = await sekisho(scene.topo, 'status');
  assert.equal(code, 0, stdout);
});

for (const { attach, skip } of ATTACH_MODES) {
  test(`cleanup removes what was attached and pinned on ${attach}, and says what`, {
    skip,
  }, async () => {
    await using scene = await managedScene({ settings: { datapath: { attach } } });
    const node = nth(scene.topo.nodes);
    await scene.agent.stop();
    const { code, stdout } = await sekisho(scene.topo, 'cleanup');
    assert.equal(code, 0);
    assert.match(stdout, /links/);
    assert.ok(!existsSync(node.bpffs) || readdirSync(node.bpffs).length === 0, 'pins are left');
    const { stdout: qdiscs } = await node.ns.exec('tc', 'qdisc', 'show');
    assert.doesNotMatch(qdiscs, /clsact/);
    const host = nth(scene.topo.worldAddresses).ipv4;
    await scene.world.listen({ host, port: PORT });
    const attempt = nth(scene.pods).connect({ tag: 'bare', host, port: PORT, timeout: 300 });
    await assert.rejects(attempt, /timeout/);
  });
}

test('a daemon that cannot start says why in one line and exits with 1', async (t) => {
  await using scene = await managedScene();
  await scene.agent.stop();
  const node = nth(scene.topo.nodes);
  const cases: [name: string, settings: Record<string, unknown>, says: RegExp][] = [
    ['an unknown key', { masquerad: {} }, /masquerade/],
    ['a table that is too large', { maps: { ctTcp: 1024, ctAny: 1024, nat: 4096 } }, /nat/],
    ['no such device', { node: { name: 'a', devices: ['eth7'] } }, /eth7/],
    [
      'no bpffs at that place',
      { state: { bpffs: join(scene.topo.directory, 'plain'), runDir: node.runDir } },
      /bpf/,
    ],
  ];
  for (const [name, settings, says] of cases) {
    await t.test(name, async () => {
      const { code, stderr } = await sekishoOn(node, configure(node, settings), 'agent');
      assert.equal(code, 1);
      assert.match(stderr, /^sekisho: [^\n]+\n$/);
      assert.match(stderr, says);
    });
  }
});

async function assertTraffic(scene: ManagedScene, text: string): Promise<void> {
  for (const prefix of FAMILIES) {
    const census = await nth(scene.pods).exchangeMany({ prefix, count: 20, text });
    assert.deepEqual(census, { alive: 20, dead: {} });
  }
}
