import assert from 'node:assert/strict';
import { test } from 'node:test';
import { churn, openLongLived } from '../lib/churn.ts';
import { readRestored } from '../lib/counts.ts';
import { managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';

const CAPACITY = 1024;
const CONNECTIONS = 1000;
const ROUNDS = 8;
const maps = { ctTcp: 4096, ctAny: 1024, nat: CAPACITY };

for (const family of FAMILIES) {
  const story = { family, connections: CONNECTIONS, rounds: ROUNDS, capacity: CAPACITY };

  test(`1,000 connections outlive a NAT table overrun eight times (${family})`, async (t) => {
    await using scene = await managedScene({ settings: { maps } });
    assert.deepEqual(await openLongLived(scene, story), { alive: CONNECTIONS, dead: {} });
    const { alive, dead, flows } = await churn(scene, story);
    const restored = readRestored(nth(scene.topo.nodes), family);
    t.diagnostic(`${flows} new flows; restored ${JSON.stringify(restored)}`);
    assert.deepEqual({ alive, dead }, { alive: CONNECTIONS, dead: {} });
    const total = restored.forward + restored.reverse + restored.adopted;
    assert.ok(total >= CONNECTIONS, `only ${total} records were brought back`);
  });

  test(`without restore most of them die of it (${family})`, async (t) => {
    const settings = { maps, masquerade: { restore: false } };
    await using scene = await managedScene({ settings });
    await openLongLived(scene, story);
    const { alive, dead } = await churn(scene, { ...story, rounds: 2 });
    t.diagnostic(`${alive} left, ${JSON.stringify(dead)}`);
    assert.ok(alive < CONNECTIONS / 2, `${alive} of ${CONNECTIONS} survived`);
  });
}
