import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import type { CollectorStatus } from '../../agent/engine/collector.ts';
import { sekishoJson } from '../lib/daemon.ts';
import { scrape } from '../lib/metrics.ts';
import { promtool, withoutPromtool } from '../lib/promtool.ts';
import { managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

const PORT = 7000;
/** Each has the whole range to itself: so many, and a table fills while no range does. */
const TARGETS = [1, 2, 3, 4].map((n) => PORT + n);
/** Enough for some CPU to make 64 insertions, of two for each flow. */
const FILL = Math.max(100, 40 * availableParallelism());
const SHARE = Math.ceil(FILL / TARGETS.length);
const PORTS = FILL + 60;
/** Room for all of them. */
const SIZE = Math.max(4096, 8 * PORTS);

test('what the datapath tells makes the collector come long before its time', async (t) => {
  const settings = {
    masquerade: { ports: { min: 40_000, max: 40_000 + PORTS - 1 } },
    gc: { interval: '1h' },
    maps: { ctTcp: SIZE, ctAny: 2048, nat: SIZE },
  };
  await using scene = await managedScene({ settings });
  const [pod, { topo }] = [nth(scene.pods), scene];
  const gc = () => sekishoJson<CollectorStatus>(topo, 'gc', 'status');
  const passesFor = async (reason: string) => {
    const metrics = await scrape(topo);
    return metrics.sum('sekisho_conntrack_gc_passes_total', { reason, status: 'completed' });
  };
  await until('the first pass', async () => (await passesFor('start')) > 0);

  await t.test('a few connections tell nothing', async () => {
    const host = nth(topo.worldAddresses).ipv4;
    await scene.world.listen({ host, port: PORT });
    await pod.connectMany({ prefix: 'few', host, port: PORT, count: 10 });
    assert.equal((await scrape(topo)).sum('sekisho_datapath_events_total'), 0);
    assert.deepEqual(
      (await gc()).history.map(({ reasons }) => reasons),
      [['start']],
    );
  });

  for (const family of FAMILIES) {
    const heard = async (type: string) =>
      (await scrape(topo)).sum('sekisho_datapath_events_total', { family, type });
    const host = nth(topo.worldAddresses)[family];

    await t.test(`a table that fills (${family})`, async () => {
      for (const port of TARGETS) {
        await scene.world.listen({ host, port });
        await pod.connectMany({ prefix: `fill-${family}-${port}`, host, port, count: SHARE });
      }
      await until('the signal', async () => (await heard('table_fill')) > 0);
      assert.equal(await heard('nat_pressure'), 0);
    });

    await t.test(`a port range that is nearly used up (${family})`, async () => {
      const before = await passesFor('nat_pressure');
      const target = { host, port: nth(TARGETS), count: PORTS - SHARE + 10, timeout: 500 };
      await pod.connectMany({ prefix: `rest-${family}`, ...target });
      await until('the signal', async () => (await heard('nat_pressure')) > 0);
      await until('the pass', async () => (await passesFor('nat_pressure')) > before);
      const { history, nextRun = 0 } = await gc();
      assert.ok(history.some(({ reasons }) => reasons.includes('nat_pressure')));
      assert.ok(nextRun - Date.now() > 30 * 60_000, 'the schedule is as it was');
    });
  }

  await t.test('promtool finds nothing wrong with what is served', (t) => {
    if (withoutPromtool) return t.skip(withoutPromtool);
    return scrape(topo).then(({ text }) => {
      assert.deepEqual(promtool(['check', 'metrics'], text), { status: 0, said: '' });
    });
  });

  await t.test('no signal was lost', async () => {
    assert.equal((await scrape(topo)).sum('sekisho_datapath_events_lost_total'), 0);
  });
});
