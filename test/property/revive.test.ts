import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { kind, layouts } from '../../agent/abi/generated.ts';
import { connectionTable } from '../../agent/daemon/tables.ts';
import { collectTable } from '../../agent/engine/pass.ts';
import { loadReaper } from '../../agent/engine/reap.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { readTurnover } from '../../agent/tables/counters.ts';
import { openRig, PEOPLE } from '../datapath/rig.ts';
import { atLength } from '../lib/long.ts';
import type { Revived, ReviveOrder } from './revive-worker.ts';

/** Few, so that each comes back while a pass is at it. */
const FLOWS = 8;
/** Outside the NAT range, as many as there are; each opens once. */
const OPENED = 30_000;
const FIRST = 1000;
/**
 * One in so many may lose something that its next packet restores: when the collector's processor is
 * taken away between a claim and its deletion, for as long as a flow needs to come back.
 */
const SPARED = 100_000;
/** Passes over all three tables. */
const PASSES = atLength(700, 20_000);

function startWorker(order: ReviveOrder): Promise<Revived> {
  return new Promise((resolve, reject) => {
    const program = new URL('./revive-worker.ts', import.meta.url);
    const worker = new Worker(program, { workerData: order });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A: src, W: dst, N: node } = PEOPLE[family];

  test(`no pass takes an entry or a port from a flow that comes back under it, ${family}`, async (t) => {
    await using rig = await openRig(family, { restore: true });
    using stack = new DisposableStack();
    const reaper = stack.use(loadReaper(rig.bpffs, family));
    const open = (name: string) => {
      const map = openPinnedMap(join(rig.bpffs, family, name));
      return stack.use(map ?? assert.fail(name));
    };
    const counters = open('counters');
    const names = ['ct_tcp', 'ct_any', 'snat'] as const;
    const tables = names.map((name) => connectionTable(family, name, open(name)));
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const working = startWorker({
      ...{ family, bpffs: rig.bpffs, src, dst, node, flows: FLOWS, stop },
      ...{ programs: rig.programIds, ifindex: rig.ifindex.a, eth0: rig.ifindex.eth0 },
    });
    const sum = { deleted: 0, skipped: 0, completed: 0 };
    for (let i = 0; i < PASSES; i++) {
      for (const table of tables) {
        const { deleted, natDeleted, skipped, completed } = await collectTable(table, {
          reap: (_, name, ...keys) => reaper.reap(name, ...keys),
          now: rig.now,
          turnover: (_, name) => readTurnover(counters, name),
          restores: () => true,
        });
        sum.deleted += deleted + natDeleted;
        sum.skipped += skipped;
        sum.completed += completed;
      }
    }
    Atomics.store(stop, 0, 1);
    const { visits, lost } = await working;
    t.diagnostic(`${visits} flows revived in ${PASSES} passes, which ${JSON.stringify(sum)}`);
    const losses = Object.values(lost).reduce((all, one) => all + one, 0);
    assert.ok(losses <= Math.floor(visits / SPARED), `lost ${JSON.stringify(lost)} of ${visits}`);
    assert.ok(sum.deleted > PASSES && sum.skipped > 0, 'passes met what had expired');
  });

  test(`a flush under new flows leaves no entry of one under the key of another, ${family}`, async (t) => {
    await using rig = await openRig(family, { restore: true });
    using stack = new DisposableStack();
    const reaper = stack.use(loadReaper(rig.bpffs, family));
    const snat = stack.use(openPinnedMap(join(rig.bpffs, family, 'snat')) ?? assert.fail('snat'));
    const { tuple, nat_entry } = layouts[family];
    const left = new Uint16Array(new SharedArrayBuffer(2 * OPENED));
    const stop = new Int32Array(new SharedArrayBuffer(4));
    let working = true;
    const opening = startWorker({
      ...{ family, bpffs: rig.bpffs, src, dst, node, flows: OPENED, stop, left },
      ...{ programs: rig.programIds, ifindex: rig.ifindex.a, eth0: rig.ifindex.eth0 },
    }).finally(() => {
      working = false;
    });
    const sum = { deleted: 0, strays: 0 };
    while (working) {
      for await (const { keys, values, count } of snat.lookupBatch()) {
        const [keyView, valueView] = [viewOf(keys), viewOf(values)];
        for (let i = 0; i < count; i++) {
          const ports = (i + 1) * tuple.size - 8;
          const value = valueView.getUint16(i * nat_entry.size + nat_entry.fields.port.offset);
          const reverse = keyView.getUint8(ports + 5) === kind.KIND_IN;
          const own = reverse ? value : keyView.getUint16(ports);
          const mapped = reverse ? keyView.getUint16(ports + 2) : value;
          const known = left[own - FIRST];
          if (known && known !== mapped) sum.strays++;
        }
        sum.deleted += (await reaper.reap('snat', keys, count, { mode: 'forced' })).deleted;
      }
    }
    const { visits } = await opening;
    t.diagnostic(`${visits} flows opened, of whose halves a flush ${JSON.stringify(sum)}`);
    assert.equal(sum.strays, 0);
    assert.ok(sum.deleted > OPENED, 'the flush met most of them');
  });
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
