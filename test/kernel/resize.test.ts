import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { encode } from '../../agent/abi/codec.ts';
import { layouts } from '../../agent/abi/generated.ts';
import { connectionTables, openScrubbed } from '../../agent/daemon/tables.ts';
import { calibrateNode, writeNodeState } from '../../agent/engine/clock.ts';
import { type Datapath, prepareDatapath } from '../../agent/engine/datapath.ts';
import { readLayoutRecord } from '../../agent/engine/layout-record.ts';
import { loadReaper } from '../../agent/engine/reap.ts';
import { finishResize, resizeTable } from '../../agent/engine/resize.ts';
import { createResizer } from '../../agent/engine/resizer.ts';
import { scrubAddresses } from '../../agent/engine/scrub.ts';
import { HANDLE, readInfo } from '../../agent/kernel/handle.ts';
import type { BpfMap } from '../../agent/kernel/map.ts';
import { FAMILIES, type Family, parseAddress } from '../../agent/lib/ip.ts';
import { CONNECTION_TABLES, type ConnectionTable } from '../../agent/tables/names.ts';
import { CURRENT, PREVIOUS } from '../../agent/tables/slots.ts';
import { tryRun } from '../lib/command.ts';
import { buildLibrary } from '../lib/crash/chain.ts';
import { fillConntrack, fillNat } from '../lib/crowd.ts';
import { mountBpffs, skipReason } from './sandbox.ts';

const QUIET = { debug() {}, info() {}, warn() {}, error() {} };
const SIZES = { ct_tcp: 16_384, ct_any: 1024, snat: 16_384 };
const ENTRIES = 10_000;
/** As the service runs: maps can be opened by their pins only. */
const WITHOUT_SYS_ADMIN = ['setpriv', '--bounding-set', '-sys_admin'];
const RESIZE = new URL('../lib/crash/resize.ts', import.meta.url);
const LIFETIME = 0xffff_0000;

async function load(bpffs: string): Promise<Datapath> {
  using prepared = prepareDatapath({ bpffs, sizes: SIZES, logger: QUIET });
  return await prepared.load({ secret: [1n, 2n], hz: 250 });
}

/** Every entry, as text, in an order of its own. */
async function contents(datapath: Datapath, family: Family, table: ConnectionTable) {
  const found: string[] = [];
  const map = datapath.map(family, table);
  for await (const { keys, values, count } of map.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      const key = Buffer.from(keys.buffer, keys.byteOffset + i * map.keySize, map.keySize);
      const at = values.byteOffset + i * map.valueSize;
      found.push(
        key.toString('hex') + Buffer.from(values.buffer, at, map.valueSize).toString('hex'),
      );
    }
  }
  return found.sort();
}

/** Does the kernel know the types of its keys and values? Linux 6.1 refuses one without as a table. */
function hasTypes(map: BpfMap): boolean {
  const info = readInfo(map[HANDLE].fd, 88);
  const [btfId, keyType, valueType] = [64, 68, 72].map((offset) => info.getUint32(offset, true));
  return Boolean(btfId && keyType && valueType);
}

function pinsOf(bpffs: string): string[] {
  return FAMILIES.flatMap((family) =>
    readdirSync(join(bpffs, family)).filter((name) => /_(new|previous)$/.test(name)),
  );
}

describe('a table that is resized', { skip: skipReason }, () => {
  it('holds what it held, in a map of the other size', async () => {
    using bpffs = mountBpffs();
    using datapath = await load(bpffs.path);
    const context = { bpffs: bpffs.path, maps: datapath };
    for (const family of FAMILIES) {
      const crowd = { family, count: ENTRIES, expires: LIFETIME };
      await fillConntrack(datapath.map(family, 'ct_tcp'), crowd);
      await fillNat(datapath.map(family, 'snat'), crowd);
      for (const table of ['ct_tcp', 'snat'] as const) {
        const before = await contents(datapath, family, table);
        for (const entries of [65_536, 12_000]) {
          const { copied, skipped } = await resizeTable(context, family, table, entries);
          assert.deepEqual([copied, skipped], [ENTRIES, 0]);
          assert.equal(datapath.map(family, table).maxEntries, entries);
          assert.ok(hasTypes(datapath.map(family, table)), `${table} without types`);
          assert.deepEqual(await contents(datapath, family, table), before);
        }
        assert.equal(datapath.previous(family, table), undefined);
      }
    }
    assert.deepEqual(pinsOf(bpffs.path), []);
    assertRecorded(bpffs.path, datapath);
  });

  it('is as it was where the kernel has no memory for the larger map', async () => {
    using bpffs = mountBpffs();
    using datapath = await load(bpffs.path);
    const context = { bpffs: bpffs.path, maps: datapath };
    const impossible = 2 ** 31;
    await assertUntouched(datapath, bpffs.path, () =>
      assert.rejects(resizeTable(context, 'ipv4', 'ct_tcp', impossible), {
        code: 'E_KERNEL',
        message: /^cannot create map ct_tcp \(2147483648 entries\)/,
      }),
    );
  });

  it('is as it was where what copies its entries cannot be loaded', async () => {
    using bpffs = mountBpffs();
    using datapath = await load(bpffs.path);
    const openCopier = () => Promise.reject(new Error('the kernel refused it'));
    const context = { bpffs: bpffs.path, maps: datapath, openCopier };
    await assertUntouched(datapath, bpffs.path, () =>
      assert.rejects(resizeTable(context, 'ipv4', 'ct_tcp', 20_000), /refused it/),
    );
  });

  it('keeps its size over restarts, and is the one that programs use', async () => {
    using bpffs = mountBpffs();
    {
      using datapath = await load(bpffs.path);
      await resizeTable({ bpffs: bpffs.path, maps: datapath }, 'ipv4', 'ct_tcp', 20_000);
    }
    using datapath = await load(bpffs.path);
    const map = datapath.map('ipv4', 'ct_tcp');
    assert.equal(map.maxEntries, 20_000);
    assert.equal(datapath.map('ipv4', 'ct_tcp_maps').lookupId(new Uint8Array(4)), map.id);
    assert.equal(datapath.map('ipv4', 'ct_tcp_maps').lookupId(PREVIOUS), undefined);
  });

  it('is the newer of both where the new map has the entry already', async () => {
    using bpffs = mountBpffs();
    using datapath = await load(bpffs.path);
    const { tuple, ct_entry } = layouts.ipv4;
    const key = new Uint8Array(tuple.size);
    const old = datapath.map('ipv4', 'ct_tcp');
    old.update(key, encode(ct_entry, { expires: 1 }));
    const put: Datapath['put'] = (...maps) => {
      datapath.put(...maps);
      datapath.map('ipv4', 'ct_tcp').update(key, encode(ct_entry, { expires: 2 }));
    };
    const context = { bpffs: bpffs.path, maps: { ...datapath, put } };
    const { copied, skipped } = await resizeTable(context, 'ipv4', 'ct_tcp', 20_000);
    assert.deepEqual([copied, skipped], [0, 1]);
    const value = datapath.map('ipv4', 'ct_tcp').lookup(key);
    assert.deepEqual(value, encode(ct_entry, { expires: 2 }));
  });

  it('is settled only while its entries are in one map', async () => {
    using bpffs = mountBpffs();
    using datapath = await load(bpffs.path);
    const settled: boolean[] = [];
    const look = () => settled.push(resizer.isSettled('ipv4', 'ct_tcp'));
    const put: Datapath['put'] = (...maps) => {
      look();
      datapath.put(...maps);
      look();
    };
    const options = { bpffs: bpffs.path, bound: 1e12, cpus: 1, logger: QUIET, onResize: look };
    const resizer = createResizer({
      ...{ ...options, datapath: { ...datapath, put } },
      exclusive: (work) => work(),
    });
    look();
    const order = { table: 'ctTcp', families: ['ipv4'], reason: 'request' } as const;
    await resizer.resize({ ...order, entries: 20_000 });
    look();
    assert.deepEqual(settled, [true, false, false, false, false, false, true]);
    const crowd = { family: 'ipv4', count: 100, expires: LIFETIME } as const;
    await fillConntrack(datapath.map('ipv4', 'ct_tcp'), crowd);
    const signal = AbortSignal.abort(new Error('halfway'));
    const context = { bpffs: bpffs.path, maps: datapath, signal };
    await assert.rejects(resizeTable(context, 'ipv4', 'ct_tcp', 16_384), /halfway/);
    assert.equal(resizer.isSettled('ipv4', 'ct_tcp'), false);
    const halfway = connectionTables(datapath).filter(({ isHalfway }) => isHalfway);
    assert.deepEqual(
      halfway.map(({ family, table }) => [family, table]),
      [['ipv4', 'ct_tcp']],
    );
  });

  it('is finished by the next start where it was cut short', async () => {
    using bpffs = mountBpffs();
    const context = (maps: Datapath) => ({ bpffs: bpffs.path, maps });
    let before: string[];
    {
      using datapath = await load(bpffs.path);
      const crowd = { family: 'ipv4', count: ENTRIES, expires: LIFETIME } as const;
      await fillConntrack(datapath.map('ipv4', 'ct_tcp'), crowd);
      before = await contents(datapath, 'ipv4', 'ct_tcp');
      const cut = { ...datapath, put: () => assert.fail('cut short') };
      await assert.rejects(resizeTable(context(cut), 'ipv4', 'ct_tcp', 20_000), /cut short/);
    }
    using datapath = await load(bpffs.path);
    assert.deepEqual(pinsOf(bpffs.path), ['ct_tcp_previous']);
    assert.equal((await finishResize(context(datapath), 'ipv4', 'ct_tcp')).copied, ENTRIES);
    assert.deepEqual(await contents(datapath, 'ipv4', 'ct_tcp'), before);
    assert.deepEqual(pinsOf(bpffs.path), []);
    for (const table of CONNECTION_TABLES) {
      assert.equal(datapath.previous('ipv4', table), undefined);
    }
  });

  it('loses the entries of an address that goes out of both maps', async () => {
    using bpffs = mountBpffs();
    using datapath = await load(bpffs.path);
    const state = calibrateNode(bpffs.path);
    writeNodeState(bpffs.path, state);
    const crowd = { family: 'ipv4', count: ENTRIES, expires: LIFETIME } as const;
    await fillConntrack(datapath.map('ipv4', 'ct_tcp'), crowd);
    using reaper = loadReaper(bpffs.path, 'ipv4', (name) => datapath.map('ipv4', name));
    const peer = parseAddress('198.18.0.7').bytes;
    const halt = new AbortController();
    const context = { bpffs: bpffs.path, maps: datapath, signal: halt.signal };
    halt.abort(new Error('halfway'));
    await assert.rejects(resizeTable(context, 'ipv4', 'ct_tcp', 20_000), /halfway/);
    datapath
      .map('ipv4', 'ct_tcp')
      .update(new Uint8Array(layouts.ipv4.tuple.size), new Uint8Array(layouts.ipv4.ct_entry.size));
    const scrubbed = openScrubbed(datapath);
    const deleted = await scrubAddresses(scrubbed.tables, [peer], async (_, table, ...keys) => {
      const result = await reaper.reap(table, ...keys, { mode: 'forced' });
      return result.deleted;
    });
    assert.equal(deleted, 1);
    const { copied } = await finishResize(
      { bpffs: bpffs.path, maps: datapath },
      ...(['ipv4', 'ct_tcp'] as const),
    );
    assert.equal(copied, ENTRIES - 1);
    let seen = 0;
    for (const { lookupBatch } of scrubbed.tables) {
      for await (const { count } of lookupBatch()) seen += count;
    }
    assert.equal(seen, 2 * ENTRIES - 1, 'the old map can be walked to its end');
    scrubbed[Symbol.dispose]();
  });

  it('is whole again after a start, at whatever step the daemon was killed', async (t) => {
    using bpffs = mountBpffs();
    using directory = scratch();
    const library = await buildLibrary({ directory: directory.path });
    let before: string[];
    {
      using datapath = await load(bpffs.path);
      const crowd = { family: 'ipv4', count: 5000, expires: LIFETIME } as const;
      await fillConntrack(datapath.map('ipv4', 'ct_tcp'), crowd);
      before = await contents(datapath, 'ipv4', 'ct_tcp');
    }
    const log = join(directory.path, 'steps');
    const [sizes, killed]: [number[], string[]] = [[16_384], []];
    for (let at = 1; ; at++) {
      const entries = sizes.at(-1) === 16_384 ? 20_000 : 16_384;
      rmSync(log, { force: true });
      const env = { LD_PRELOAD: library, CRASH_AT: `${at}`, CRASH_LOG: log, CRASH_EACH: '1' };
      const { code, stderr } = await tryRun(
        [...WITHOUT_SYS_ADMIN, process.execPath, RESIZE.pathname, bpffs.path, `${entries}`],
        { env: { ...process.env, ...env } },
      );
      if (code === 0) break;
      assert.equal(code, 137, stderr);
      killed.push(readFileSync(log, 'utf8').trim().split('\n').at(-1) ?? '');
      using datapath = await load(bpffs.path);
      await finishResize({ bpffs: bpffs.path, maps: datapath }, 'ipv4', 'ct_tcp');
      assert.deepEqual(
        await contents(datapath, 'ipv4', 'ct_tcp'),
        before,
        `after ${killed.at(-1)}`,
      );
      assert.deepEqual(pinsOf(bpffs.path), []);
      assertRecorded(bpffs.path, datapath);
      sizes.push(datapath.map('ipv4', 'ct_tcp').maxEntries);
    }
    t.diagnostic(killed.map((step, i) => `${step} -> ${sizes[i + 1]}`).join(', '));
    for (const step of ['pin', 'update', 'rename', 'run', 'delete', 'unlink']) {
      assert.ok(killed.includes(step), step);
    }
  });
});

/** The table has the same map and the same entries afterwards, and takes another size. */
async function assertUntouched(datapath: Datapath, bpffs: string, work: () => Promise<void>) {
  const old = datapath.map('ipv4', 'ct_tcp');
  await fillConntrack(old, { family: 'ipv4', count: 100, expires: LIFETIME });
  const before = await contents(datapath, 'ipv4', 'ct_tcp');
  await work();
  assert.equal(datapath.map('ipv4', 'ct_tcp'), old);
  assert.equal(datapath.previous('ipv4', 'ct_tcp'), undefined);
  const outer = datapath.map('ipv4', 'ct_tcp_maps');
  assert.deepEqual([outer.lookupId(CURRENT), outer.lookupId(PREVIOUS)], [old.id, undefined]);
  assert.deepEqual(pinsOf(bpffs), []);
  assertRecorded(bpffs, datapath);
  await resizeTable({ bpffs, maps: datapath }, 'ipv4', 'ct_tcp', 20_000);
  assert.deepEqual(await contents(datapath, 'ipv4', 'ct_tcp'), before);
}

/** The record has the maps that are open, and no others. */
function assertRecorded(bpffs: string, datapath: Datapath): void {
  const recorded = [...readLayoutRecord(bpffs).maps.keys()].sort();
  const open = FAMILIES.flatMap((family) =>
    datapath
      .mapNames(family)
      .filter((name) => !name.endsWith('_maps'))
      .map((name) => datapath.map(family, name).id),
  );
  assert.deepEqual(recorded, open.sort());
}

function scratch(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'sekisho-resize-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}
