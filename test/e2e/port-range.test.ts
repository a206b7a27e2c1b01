import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDrops } from '../lib/counts.ts';
import { sekishoJson } from '../lib/daemon.ts';
import { scrape } from '../lib/metrics.ts';
import { managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';

interface NatHalf {
  destination: { address: string };
  to: { port: number };
}

const PORT = 7000;
const PORTS = 1000;
const PODS = 2;
/** For each pod: together a fifth more than there are ports. */
const CONNECTS = 600;

test('pods that race for the last ports of a range use at least 99 in 100', async (t) => {
  const settings = { masquerade: { ports: { min: 40_000, max: 40_000 + PORTS - 1 } } };
  await using scene = await managedScene({ settings, pods: PODS });
  const node = nth(scene.topo.nodes);
  for (const family of FAMILIES) {
    const host = nth(scene.topo.worldAddresses)[family];
    await scene.world.listen({ host, port: PORT });
    await scene.world.listen({ host, port: PORT + 1 });
    const alive: number[] = [];

    await t.test(`the rest is refused with a reason (${family})`, async () => {
      const target = { host, port: PORT, count: CONNECTS, timeout: 1500 };
      const races = scene.pods.map((pod) => pod.connectMany({ prefix: family, ...target }));
      for (const { alive: won, dead } of await Promise.all(races)) {
        alive.push(won);
        assert.deepEqual(
          Object.keys(dead).filter((why) => why !== 'timeout'),
          [],
        );
      }
      const sum = alive.reduce((total, won) => total + won, 0);
      t.diagnostic(`${family}: ${sum} of ${PORTS} ports`);
      assert.ok(sum >= 0.99 * PORTS && sum <= PORTS, `${sum} connections on ${PORTS} ports`);
      assert.ok(readDrops(node, family, 'nat_no_port') > 0);
      assert.ok(readDrops(node, family, 'nat_full') > readDrops(node, family, 'nat_no_port'));
    });

    await t.test(`each has a port of its own (${family})`, async () => {
      const halves = await sekishoJson<NatHalf[]>(scene.topo, ...'nat list --kind out'.split(' '));
      const ports = halves
        .filter(({ destination }) => destination.address === host)
        .map(({ to }) => to.port);
      assert.equal(ports.length, nth(alive) + nth(alive, 1));
      assert.equal(new Set(ports).size, ports.length);
    });

    await t.test(
      `those that got one keep it, and others are not affected (${family})`,
      async () => {
        for (const [i, pod] of scene.pods.entries()) {
          const group = { prefix: family, count: CONNECTS };
          assert.equal((await pod.exchangeMany(group)).alive, nth(alive, i));
          await pod.connect({ tag: `other-${family}`, host, port: PORT + 1 });
        }
      },
    );
  }

  await t.test('the metrics tell', async () => {
    const metrics = await scrape(scene.topo);
    for (const family of FAMILIES) {
      assert.ok(metrics.sum('sekisho_nat_port_allocation_failures_total', { family }) > 0);
      const reason = { family, hook: 'to_netdev', reason: 'nat_full' };
      assert.ok(metrics.sum('sekisho_drop_total', reason) > 0);
    }
  });
});
