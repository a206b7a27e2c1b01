import { test } from 'node:test';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { masqueradeWithNftables, nftablesIsMissing } from '../lib/nftables.ts';
import { bareScene, managedScene } from '../lib/scene.ts';
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

test('under nftables, as a cross-check of the tests', { skip: nftablesIsMissing() }, async (t) => {
  await using scene = await bareScene({ pods: 2 });
  await masqueradeWithNftables(scene.topo);
  await checkReachability(t, scene);
});
