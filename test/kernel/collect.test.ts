import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { connectionTable } from '../../agent/daemon/tables.ts';
import { type CollectedTable, collectTable } from '../../agent/engine/pass.ts';
import { loadReaper } from '../../agent/engine/reap.ts';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { type Pinned, pinDatapath } from '../cli/pinned.ts';
import { fillConntrack } from '../lib/crowd.ts';
import { watchEventLoop } from '../lib/event-loop.ts';
import { skipReason } from './sandbox.ts';

const ENTRIES = 100_000;
const BATCHES = Math.floor(ENTRIES / 4096);
const turnover = () => ({ created: 0, deleted: 0 });

describe('a pass over a large table', { skip: skipReason }, () => {
  let pinned: Pinned;
  let map: BpfMap;
  let table: CollectedTable;

  before(async () => {
    pinned = await pinDatapath({ ct_tcp: ENTRIES + 20_000 });
    map = openPinnedMap(join(pinned.bpffs, 'ipv4/ct_tcp')) as BpfMap;
    table = connectionTable('ipv4', 'ct_tcp', map);
  });
  after(() => {
    map?.close();
    pinned?.[Symbol.dispose]();
  });

  /** Entries that expire in `seconds`; the figures of a pass over them. */
  async function collect(seconds: number) {
    await fillConntrack(map, {
      ...{ family: 'ipv4', count: ENTRIES },
      expires: pinned.now() + seconds,
    });
    using reaper = loadReaper(pinned.bpffs, 'ipv4');
    const loop = watchEventLoop();
    let calls = 0;
    const result = await collectTable(table, {
      reap: (_, name, keys, count) => {
        calls++;
        return reaper.reap(name, keys, count);
      },
      now: pinned.now,
      turnover,
    });
    return { ...result, calls, turns: loop.stop().turns };
  }

  it('lets the event loop turn between its batches', async () => {
    const { alive, deleted, turns } = await collect(600);
    assert.deepEqual([alive, deleted], [ENTRIES, 0]);
    assert.ok(turns >= BATCHES, `${turns} turns in ${BATCHES} batches`);
  });

  it('lets it turn while what has expired is deleted, too', async () => {
    const { alive, deleted, turns, calls } = await collect(-600);
    assert.deepEqual([alive, deleted], [0, ENTRIES]);
    assert.ok(calls >= BATCHES, `${calls} reaps`);
    assert.ok(turns >= BATCHES + calls, `${turns} turns in ${BATCHES} batches and ${calls} reaps`);
    assert.equal(await map.count(), 0);
  });
});
