import { test } from 'node:test';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { startAgent } from '../lib/daemon.ts';
import { masqueradeWithNftables, nftablesIsMissing } from '../lib/nftables.ts';
import { bareScene, managedScene } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';
import { checkReachability } from './reachability.ts';

for (const { attach, skip } of ATTACH_MODES) {
  for (const routing of ['fast', 'stack']) {
    test(`with ${routing} routing on ${attach}`, { skip }, async (t) => {
      const settings = { datapath: { routing, attach } };
      await using scene = await managedScene({ pods: 2, settings });
      await checkReachability(t, scene);
    });
  }
}

test('with pods behind a bridge, which has no peer to deliver through', async (t) => {
  await using scene = await bareScene({ pods: 2 });
  const { topo } = scene;
  await topo.node.ip(
    'link add br0 type bridge',
    'link set br0 up',
    ...topo.pods.flatMap(({ interface: port, addresses }) => [
      `link set ${port} master br0`,
      ...FAMILIES.map((family) => `route replace ${addresses[family]} dev br0`),
    ]),
  );
  const endpoints = topo.pods.map(({ name, addresses }) => ({
    ...{ name, interface: 'br0', addresses: Object.values(addresses) },
  }));
  await startAgent(topo, { endpoints });
  await checkReachability(t, scene);
});

test('under nftables, as a cross-check of the tests', { skip: nftablesIsMissing() }, async (t) => {
  await using scene = await bareScene({ pods: 2 });
  await masqueradeWithNftables(scene.topo);
  await checkReachability(t, scene);
});
