import { test } from 'node:test';
import { masqueradeWithNftables, nftablesIsMissing } from '../lib/nftables.ts';
import { bareScene, managedScene } from '../lib/scene.ts';
import { checkReachability } from './reachability.ts';

test('with fast routing', async (t) => {
  await using scene = await managedScene({ pods: 2 });
  await checkReachability(t, scene);
});

test('with the routing of the stack', async (t) => {
  const settings = { datapath: { routing: 'stack' } };
  await using scene = await managedScene({ pods: 2, settings });
  await checkReachability(t, scene);
});

test('under nftables, as a cross-check of the tests', { skip: nftablesIsMissing() }, async (t) => {
  await using scene = await bareScene({ pods: 2 });
  await masqueradeWithNftables(scene.topo);
  await checkReachability(t, scene);
});
