import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';
import { affordably } from '../lib/wait.ts';

const BULK = affordably(1e9);
const CHECKED = affordably(64e6);
const PORT = 7000;

const WAYS = [
  { routing: 'fast', attach: 'auto' },
  { routing: 'stack', attach: 'auto' },
  { routing: 'fast', attach: 'tc' },
];

for (const { routing, attach } of WAYS) {
  const name = `${routing} routing, attach: ${attach}`;
  test(`bulk transfers are translated with offloads on (${name})`, async (t) => {
    await using scene = await managedScene({ settings: { datapath: { routing, attach } } });
    const client = nth(scene.pods);
    for (const family of FAMILIES) {
      const host = nth(scene.topo.worldAddresses)[family];
      await scene.world.bulkServe({ host, port: PORT });

      await t.test(`${BULK / 1e6} MB leave a pod (${family})`, async (t) => {
        const { bytes, seconds } = await client.upload({ host, port: PORT, bytes: BULK });
        assert.equal(bytes, BULK);
        t.diagnostic(`${(8 / seconds).toFixed(1)} Gbit/s`);
      });

      await t.test(`${BULK / 1e6} MB reach a pod (${family})`, async (t) => {
        const { bytes, seconds } = await client.download({ host, port: PORT, bytes: BULK });
        assert.equal(bytes, BULK);
        t.diagnostic(`${(8 / seconds).toFixed(1)} Gbit/s`);
      });
    }
  });
}

const ethtool = spawnSync('ethtool', ['--version']).error ? 'ethtool is not installed' : false;

test('without offloads every checksum on the wire is the right one', {
  skip: ethtool,
}, async (t) => {
  await using scene = await managedScene();
  const { topo } = scene;
  for (const ns of [topo.world, topo.node, nth(topo.pods).ns]) {
    await ns.exec('ethtool', '-K', 'eth0', 'tx', 'off', 'gso', 'off', 'gro', 'off');
  }
  const client = nth(scene.pods);
  const hash = await client.expectedHash({ bytes: CHECKED });
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    await scene.world.bulkServe({ host, port: PORT });
    const order = { host, port: PORT, bytes: CHECKED, hash: true };

    await t.test(`${CHECKED / 1e6} MB leave a pod unchanged (${family})`, async () => {
      assert.equal((await client.upload(order)).hash, hash);
    });

    await t.test(`${CHECKED / 1e6} MB reach a pod unchanged (${family})`, async () => {
      assert.equal((await client.download(order)).hash, hash);
    });
  }
});
