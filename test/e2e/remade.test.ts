import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { crashAfter } from '../lib/crash/chain.ts';
import { startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { FAMILIES, plugPod } from '../lib/topology.ts';

const PORT = 7000;

for (const { attach, skip } of ATTACH_MODES) {
  test(`a pod whose interface is made anew never sends bare (${attach})`, { skip }, async (t) => {
    await using scene = await bareScene();
    const { topo } = scene;
    const [node, pod, peer] = [nth(topo.nodes), nth(topo.pods), nth(scene.pods)];
    const settings = { node: { devices: ['eth0'] }, datapath: { attach } };
    const host = nth(topo.worldAddresses);
    for (const family of FAMILIES) await scene.world.listen({ host: host[family], port: PORT });
    await (await startAgent(topo, settings)).kill9();
    await using wire = await openWire(topo.world, 'eth0', {
      sources: Object.values(node.podCIDRs),
    });
    const assertClosed = async () => {
      for (const family of FAMILIES) {
        await peer.udpFlood({ host: host[family], port: PORT, count: 20 });
      }
      assert.deepEqual(
        (await wire.take()).map(({ frame }) => dissect(frame).ip),
        [],
      );
    };

    await t.test('before a daemon sees it', async () => {
      await node.ns.ip(`link del ${pod.interface}`);
      await plugPod(node, pod);
      await assertClosed();
    });

    await t.test('nor after one that is killed right when its rows go', async () => {
      await crashAfter(topo, 'delete', settings);
      await assertClosed();
    });

    await t.test('and is translated by the next one', async () => {
      await startAgent(topo, settings);
      for (const family of FAMILIES) {
        await peer.connect({ tag: family, host: host[family], port: PORT });
        const { remoteAddress } = await scene.world.endpoints({ tag: family });
        assert.equal(remoteAddress, node.addresses[family]);
      }
      await assertClosed();
    });
  });
}
