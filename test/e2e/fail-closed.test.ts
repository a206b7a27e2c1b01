import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDrops } from '../lib/counts.ts';
import { nodeSettings, sekisho, startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

test('a source inside the pod ranges that is no endpoint never leaves', async (t) => {
  await using scene = await bareScene({ pods: 2 });
  const { topo } = scene;
  const node = nth(topo.nodes);
  const [first] = nodeSettings(node).endpoints as unknown[];
  await startAgent(topo, { endpoints: [first] });
  await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(node.podCIDRs) });
  const stranger = nth(scene.pods, 1);
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    await scene.world.listen({ host, port: 7000 });

    await t.test(`it is dropped with a reason (${family})`, async () => {
      const before = readDrops(node, family, 'unknown_source');
      await assert.rejects(stranger.connect({ tag: family, host, port: 7000, timeout: 300 }));
      assert.ok(readDrops(node, family, 'unknown_source') > before);
    });

    await t.test(`and leaves as the node once it is one (${family})`, async () => {
      const pod = nth(topo.pods, 1);
      const name = `late-${family}`;
      const address = pod.addresses[family];
      const added = await sekisho(topo, ...addEndpoint(name, pod.interface, address));
      assert.equal(added.code, 0, added.stderr);
      await stranger.connect({ tag: name, host, port: 7000 });
      const { remoteAddress } = await scene.world.endpoints({ tag: name });
      assert.equal(remoteAddress, node.addresses[family]);
      assert.equal((await sekisho(topo, 'endpoint', 'delete', name)).code, 0);
    });
  }
  await t.test('no packet with a private source has reached the world', async () => {
    const leaks = (await wire.take()).map(({ frame }) => dissect(frame).ip);
    assert.deepEqual(leaks, []);
  });
});

test('a pod that takes the address of another one is not heard', async () => {
  await using scene = await bareScene({ pods: 2 });
  const { topo } = scene;
  const node = nth(topo.nodes);
  await startAgent(topo);
  const [honest, liar] = [nth(topo.pods), nth(topo.pods, 1)];
  await using wire = await openWire(liar.ns, 'eth0', { sources: [] });
  for (const family of FAMILIES) {
    await wire.send({
      eth: { src: liar.mac, dst: liar.routerMac },
      ip: { src: honest.addresses[family], dst: nth(topo.worldAddresses)[family] },
      udp: { sport: 40_000, dport: 7000 },
    });
    await until('the drop', () => readDrops(node, family, 'invalid_source') === 1);
  }
});

function addEndpoint(name: string, device: string, address: string): string[] {
  return ['endpoint', 'add', name, '--interface', device, '--address', address];
}
