import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { openRig, PEOPLE, type Rig } from '../datapath/rig.ts';
import type { FlowKey } from '../lib/tables.ts';
import type { RaceOrder } from './race-worker.ts';

const FLOWS = 6000;
const FEWER = 2500;
const [SMALL, LARGE] = [65_536, 131_072];
const RANGE: [number, number] = [40000, 47999];

function runWorker(order: RaceOrder): Promise<number> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./race-worker.ts', import.meta.url), { workerData: order });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

/** Flows of both pods that have a port, each of them its own, with both halves. */
function countOwned(rig: Rig, family: 'ipv4' | 'ipv6', flows: number): number {
  const { A, B, N, W } = PEOPLE[family];
  const owners = new Map<number, string>();
  let forward = 0;
  for (const src of [A, B]) {
    for (let i = 0; i < flows; i++) {
      const sport = RANGE[0] + i;
      const key: FlowKey = { src, dst: W, sport, dport: 443, protocol: 6, kind: 0 };
      const half = rig.nat(key);
      if (!half) continue;
      forward += 1;
      assert.equal(owners.get(half.port), undefined, `port ${half.port} has two owners`);
      owners.set(half.port, `${src}:${sport}`);
      const back = rig.nat({
        src: W,
        dst: N,
        sport: 443,
        dport: half.port,
        protocol: 6,
        kind: 1,
      });
      assert.equal(back?.port, sport, 'the reverse half is of the same flow');
    }
  }
  return forward;
}

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, B, W } = PEOPLE[family];

  test(`two CPUs that open the same ports never share one, ${family}`, async () => {
    await using rig = await openRig(family, { portRange: RANGE, tableSize: 65536 });
    const order = (pod: 'a' | 'b', src: string): RaceOrder => ({
      ...{ family, src, dst: W, first: RANGE[0], count: FLOWS },
      ...{ programs: rig.programIds, ifindex: rig.ifindex[pod], eth0: rig.ifindex.eth0 },
    });
    const opened = await Promise.all([runWorker(order('a', A)), runWorker(order('b', B))]);
    const forward = countOwned(rig, family, FLOWS);
    assert.equal(forward, (opened[0] ?? 0) + (opened[1] ?? 0));
    const ports = RANGE[1] - RANGE[0] + 1;
    const counted = JSON.stringify(rig.counted('to_netdev'));
    assert.ok(forward >= 0.99 * ports, `${forward} of ${ports} ports in use: ${counted}`);
    assert.equal(await rig.count('snat'), 2 * forward, 'no half without the other');
  });

  test(`nor do they while the table is resized, ${family}`, async (t) => {
    await using rig = await openRig(family, { portRange: RANGE, tableSize: SMALL });
    const order = (pod: 'a' | 'b', src: string): RaceOrder => ({
      ...{ family, src, dst: W, first: RANGE[0], count: FEWER },
      ...{ programs: rig.programIds, ifindex: rig.ifindex[pod], eth0: rig.ifindex.eth0 },
    });
    let running = true;
    const workers = Promise.all([runWorker(order('a', A)), runWorker(order('b', B))]).finally(
      () => {
        running = false;
      },
    );
    let resizes = 0;
    for (; running; resizes++) await rig.resize('snat', resizes % 2 ? SMALL : LARGE);
    const opened = await workers;
    t.diagnostic(`${resizes} resizes`);
    const forward = countOwned(rig, family, FEWER);
    assert.equal(forward, 2 * FEWER);
    assert.equal(forward, (opened[0] ?? 0) + (opened[1] ?? 0));
    assert.equal(await rig.count('snat'), 2 * forward, 'no half without the other');
    const { 'created snat': created } = rig.counted('to_netdev');
    assert.equal(created, 2 * forward);
  });

  test(`two CPUs that open the same flows leave each one port, ${family}`, async () => {
    await using rig = await openRig(family, { portRange: RANGE, tableSize: 65536 });
    const order: RaceOrder = {
      ...{ family, src: A, dst: W, first: 1000, count: FLOWS },
      ...{ programs: rig.programIds, ifindex: rig.ifindex.a, eth0: rig.ifindex.eth0 },
      gate: new Int32Array(new SharedArrayBuffer(4)),
    };
    await Promise.all([runWorker(order), runWorker(order)]);
    assert.equal(await rig.count('snat'), 2 * FLOWS);
    assert.equal(await rig.count('ct_tcp'), FLOWS);
  });
}
