import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { configure, type Settings, sekisho, sekishoOn, startAgent } from '../lib/daemon.ts';
import { managedScene, nth } from '../lib/scene.ts';
import { topology } from '../lib/topology.ts';
import { call } from './support.ts';

const SMALL = { maps: { ctTcp: 4096, ctAny: 2048, nat: 4096 } };

test('a second daemon is refused, the first one and its pins are left alone', async (t) => {
  await using scene = await managedScene({ settings: SMALL });
  await using elsewhere = await topology();
  const [node, other] = [nth(scene.topo.nodes), nth(elsewhere.nodes)];
  const refused = async (settings: Settings, on = node) => {
    const { code, stderr } = await sekishoOn(on, configure(on, { ...SMALL, ...settings }), 'agent');
    assert.equal(code, 1);
    return stderr;
  };
  const holder = `process ${scene.agent.pid} holds the lock on`;
  const { bpffs, runDir } = node;

  await t.test('with the same run directory', async () => {
    const said = await refused({ state: { bpffs: other.bpffs, runDir } });
    assert.equal(said, `sekisho: another agent is running (${holder} ${runDir}/agent.lock)\n`);
  });

  await t.test(
    'in the same network namespace, with pins and run directory of its own',
    async () => {
      const said = await refused({
        state: { bpffs: other.bpffs, runDir: other.runDir },
        metrics: { listen: '127.0.0.1:9965' },
      });
      assert.equal(
        said,
        `sekisho: another agent runs in this network namespace (${holder} /proc/self/ns/net)\n`,
      );
      assert.ok(!existsSync(other.bpffs));
    },
  );

  await t.test('with the same pins, in another network namespace', async () => {
    const said = await refused({ state: { bpffs, runDir: other.runDir } }, other);
    assert.equal(said, `sekisho: another agent uses the pins in ${bpffs} (${holder} ${bpffs})\n`);
  });

  await t.test('and so is a cleanup of its pins from another run directory', async () => {
    const file = configure(other, { state: { bpffs, runDir: other.runDir } });
    const { code, stderr } = await sekishoOn(other, file, 'cleanup');
    assert.equal(code, 1);
    assert.match(stderr, /^sekisho: an agent is running \(/);
    assert.equal((await call(scene, 'GET', '/v1/healthz')).status, 200);
  });

  await t.test('until the first one is gone, however it went', async () => {
    await scene.agent.kill9();
    await startAgent(scene.topo, SMALL);
  });
});

for (const { attach, skip } of ATTACH_MODES) {
  test(`hooks on ${attach} that were pinned elsewhere are not doubled`, { skip }, async () => {
    const settings = { ...SMALL, datapath: { attach } };
    await using scene = await managedScene({ settings });
    const node = nth(scene.topo.nodes);
    const before = scene.agent.configFile;
    await scene.agent.stop();
    const moved = { ...settings, state: { bpffs: `${node.bpffs}-moved`, runDir: node.runDir } };
    const { code, stderr } = await sekishoOn(node, configure(node, moved), 'agent');
    assert.equal(code, 1);
    assert.match(stderr, /^sekisho: to_netdev of another Sekisho is attached to eth0 \(.*cleanup/);
    assert.ok(!existsSync(moved.state.bpffs));

    assert.equal(before, configure(node, settings));
    assert.equal((await sekisho(scene.topo, 'cleanup')).code, 0);
    await startAgent(scene.topo, moved);
    assert.ok(existsSync(join(moved.state.bpffs, 'links')));
  });
}

test('a cleanup in another network namespace leaves filters their pins', async () => {
  const settings = { ...SMALL, datapath: { attach: 'tc' } };
  await using scene = await managedScene({ settings });
  await using elsewhere = await topology();
  const [node, other] = [nth(scene.topo.nodes), nth(elsewhere.nodes)];
  const file = scene.agent.configFile;
  await scene.agent.stop();
  const { code, stderr } = await sekishoOn(other, file, 'cleanup');
  assert.equal(code, 1);
  assert.match(stderr, /^sekisho: none of the hooks is in this network namespace \(/);
  const { stdout } = await sekishoOn(node, file, 'cleanup');
  assert.match(stdout, /^detached .*to_netdev/m);
  const filters = await node.ns.exec('tc', 'filter', 'show', 'dev', 'eth0', 'egress');
  assert.equal(filters.stdout, '');
});
