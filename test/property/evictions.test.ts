import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { connectionTable } from '../../agent/daemon/tables.ts';
import { collectTable } from '../../agent/engine/pass.ts';
import { loadReaper } from '../../agent/engine/reap.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { readTurnover } from '../../agent/tables/counters.ts';
import { openRig, PEOPLE, type Rig } from '../datapath/rig.ts';
import { buildPacket } from '../lib/packet.ts';
import type { FlowKey } from '../lib/tables.ts';

const SIZE = 1024;
const UDP = 17;

/** Passes over the NAT table of a rig. */
function collector(rig: Rig, stack: DisposableStack) {
  const reaper = stack.use(loadReaper(rig.bpffs, rig.family));
  const open = (name: string) => {
    const map = openPinnedMap(join(rig.bpffs, rig.family, name));
    return stack.use(map ?? assert.fail(name));
  };
  const [counters, snat] = [open('counters'), open('snat')];
  const turnover = () => readTurnover(counters, 'snat');
  const table = connectionTable(rig.family, 'snat', snat);
  return {
    turnover,
    collect: (restores = true) =>
      collectTable(table, {
        ...{ now: rig.now, turnover, restores: () => restores },
        reap: (_, name, ...keys) => reaper.reap(name, ...keys),
      }),
  };
}

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A: src, W: dst, N: node } = PEOPLE[family];
  const open = (rig: Rig, first: number, count: number) => {
    for (let sport = first; sport < first + count; sport++) {
      const udp = { sport, dport: 53 };
      assert.notEqual(
        rig.out(buildPacket({ ip: { src, dst }, udp, payload: 'x' })).verdict,
        'drop',
      );
    }
  };
  const forward = (sport: number): FlowKey => {
    return { src, dst, sport, dport: 53, protocol: UDP, kind: 0 };
  };
  const reverse = (sport: number): FlowKey => {
    return { src: dst, dst: node, sport: 53, dport: sport, protocol: UDP, kind: 1 };
  };

  test(`a table that was never half full has lost nothing, whatever came and went, ${family}`, async () => {
    await using rig = await openRig(family, { tableSize: SIZE, restore: true });
    using stack = new DisposableStack();
    const { collect, turnover } = collector(rig, stack);
    open(rig, 40_000, 200);
    for (let sport = 40_000; sport < 40_150; sport++) {
      rig.patchNat(forward(sport), { expires: 1 });
      if (sport % 3 > 0) rig.patchNat(reverse(sport), { expires: 1 });
    }
    const first = await collect();
    assert.deepEqual([first.deleted, first.completed, first.evicted], [250, 50, 0]);
    const second = await collect();
    assert.deepEqual([second.alive, second.completed, second.evicted], [200, 0, 0]);
    const { created, deleted } = turnover();
    assert.deepEqual([created, deleted], [2 * 200 + 50, 250]);
  });

  test(`what is lost is counted to the entry, at rest, ${family}`, async () => {
    await using rig = await openRig(family, { tableSize: SIZE, restore: true });
    using stack = new DisposableStack();
    const { collect } = collector(rig, stack);
    open(rig, 40_000, 150);
    for (let sport = 40_000; sport < 40_007; sport++) rig.remove('snat', reverse(sport));
    assert.equal((await collect(false)).evicted, 7, 'seven halves were taken away');
    const { completed, evicted } = await collect();
    assert.deepEqual([completed, evicted], [7, 7], 'and are there again');

    open(rig, 42_000, 600);
    const { alive, evicted: overrun } = await collect(false);
    assert.equal(alive, await rig.count('snat'));
    assert.ok(alive <= SIZE);
    assert.equal(overrun, 2 * 150 + 7 + 2 * 600 - alive);
  });
}
