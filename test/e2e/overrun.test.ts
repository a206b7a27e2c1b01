import assert from 'node:assert/strict';
import { test } from 'node:test';
import { churn, openLongLived } from '../lib/churn.ts';
import { readRestored } from '../lib/counts.ts';
import { managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';

const CONNECTIONS = 1000;
const ALL = { alive: CONNECTIONS, dead: {} };

/**
 * The daemon is gone while the table is overrun, since it would make room: what is shown is the
 * datapath's. A pair takes two entries: the small table cannot hold half of the
 * connections at once.
 */
const STORIES = [
  { name: 'with translated ports', capacity: 4096, firstPort: 10_000 },
  { name: 'with ports that are kept, in a table too small', capacity: 1024, firstPort: 34_000 },
];

for (const { name, capacity, firstPort } of STORIES) {
  const maps = { ctTcp: 4096, ctAny: 1024, nat: capacity };
  for (const family of FAMILIES) {
    const story = { family, connections: CONNECTIONS, rounds: 4, capacity, firstPort };

    test(`1,000 connections outlive a table overrun eight times, ${name} (${family})`, async (t) => {
      await using scene = await managedScene({ settings: { maps } });
      assert.deepEqual(await openLongLived(scene, story), ALL);
      await scene.agent.kill9();
      const { alive, dead, flows } = await churn(scene, story);
      const restored = readRestored(nth(scene.topo.nodes), family);
      t.diagnostic(`${flows} new flows; restored ${JSON.stringify(restored)}`);
      assert.deepEqual({ alive, dead }, ALL);
      assert.ok(restored.forward + restored.reverse + restored.adopted > 0, 'nothing was lost');
    });

    test(`without restore most of them die of it, ${name} (${family})`, async (t) => {
      const settings = { maps, masquerade: { restore: false } };
      await using scene = await managedScene({ settings });
      await openLongLived(scene, story);
      await scene.agent.kill9();
      const { alive, dead } = await churn(scene, { ...story, rounds: 2, patience: 2000 });
      t.diagnostic(`${alive} left, ${JSON.stringify(dead)}`);
      assert.ok(alive < CONNECTIONS / 2, `${alive} of ${CONNECTIONS} survived`);
    });
  }
}
