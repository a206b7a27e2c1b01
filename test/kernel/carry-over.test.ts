import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { decode, encode } from '../../agent/abi/codec.ts';
import { layouts } from '../../agent/abi/generated.ts';
import { attachHooks } from '../../agent/engine/attach.ts';
import { type Datapath, prepareDatapath } from '../../agent/engine/datapath.ts';
import { readLayoutRecord, writeLayoutRecord } from '../../agent/engine/layout-record.ts';
import { previousPin, stagedPin } from '../../agent/engine/pins.ts';
import { createTable } from '../../agent/engine/resize.ts';
import type { Shape } from '../../agent/engine/table-layout.ts';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { parseAddress } from '../../agent/lib/ip.ts';
import { CURRENT, PREVIOUS } from '../../agent/tables/slots.ts';
import { encodeTuple } from '../../agent/tables/tuple.ts';
import { interfaceIndex } from '../lib/interface-index.ts';
import { inOwnNamespace, mountBpffs, runInOwnNamespace, skipReason } from './sandbox.ts';

const QUIET = { debug() {}, info() {}, warn() {}, error() {} };
const SIZES = { ct_tcp: 1024, ct_any: 1024, snat: 1024 };
const ENTRY = layouts.ipv4.ct_entry;

/** Pins as an older version left them, whose CT entries have two fields in each other's place. */
interface Older extends Disposable {
  bpffs: string;
  ct: BpfMap;
}

async function start(bpffs: string): Promise<Datapath> {
  using prepared = prepareDatapath({ bpffs, sizes: SIZES, logger: QUIET });
  return await prepared.load({ secret: [1n, 2n], hz: 250 });
}

async function older(): Promise<Older> {
  using stack = new DisposableStack();
  const bpffs = stack.use(mountBpffs()).path;
  (await start(bpffs))[Symbol.dispose]();
  const { maps, staging } = readLayoutRecord(bpffs);
  const swapped = [...maps].map(([id, layout]): [number, typeof layout] => [
    id,
    { ...layout, value: swap(layout.value) },
  ]);
  writeLayoutRecord(bpffs, { maps: new Map(swapped), staging });
  const ct = openPinnedMap(join(bpffs, 'ipv4/ct_tcp'));
  assert.ok(ct);
  stack.use(ct);
  const owned = stack.move();
  return { bpffs, ct, [Symbol.dispose]: () => owned.dispose() };
}

function swap({ size, fields }: Shape): Shape {
  const { last_tx_report: tx, last_rx_report: rx } = fields;
  if (!tx || !rx) return { size, fields };
  return { size, fields: { ...fields, last_tx_report: rx, last_rx_report: tx } };
}

function key(sport: number): Uint8Array {
  const [saddr, daddr] = [parseAddress('10.0.1.10').bytes, parseAddress('203.0.113.45').bytes];
  return encodeTuple('ipv4', { saddr, daddr, sport, dport: 443, proto: 6, kind: 0 });
}

function put(table: BpfMap, sport: number, expires: number): void {
  table.update(key(sport), encode(ENTRY, { expires }));
}

function expires(table: BpfMap, sport: number): number | undefined {
  const value = table.lookup(key(sport));
  return value && decode(ENTRY, value).expires;
}

/** New programs come onto a hook, as of a start that goes on, or is cut short after it. */
function attachSome(bpffs: string, { programs }: Datapath): void {
  attachHooks({ bpffs, programs, attach: 'tc' }, interfaceIndex('lo'), ['to_netdev']);
}

if (inOwnNamespace()) {
  test('fields go to their new places', async () => {
    using before = await older();
    before.ct.update(key(1), encode(ENTRY, { expires: 60, last_tx_report: 5 }));
    using datapath = await start(before.bpffs);
    await datapath.carryOver();
    const value = datapath.map('ipv4', 'ct_tcp').lookup(key(1));
    assert.ok(value);
    const { last_tx_report, last_rx_report } = decode(ENTRY, value);
    assert.deepEqual({ last_tx_report, last_rx_report }, { last_tx_report: 0, last_rx_report: 5 });
  });

  test('a connection established while the programs are loaded does not stay half-open', async () => {
    using before = await older();
    put(before.ct, 1, 60);
    using datapath = await start(before.bpffs);
    put(before.ct, 1, 8000);
    await datapath.carryOver();
    assert.equal(expires(datapath.map('ipv4', 'ct_tcp'), 1), 8000);
  });

  test('what the new programs wrote is newer than what the old ones did', async () => {
    using before = await older();
    put(before.ct, 1, 60);
    using datapath = await start(before.bpffs);
    await datapath.carryOver();
    attachSome(before.bpffs, datapath);
    const table = datapath.map('ipv4', 'ct_tcp');
    put(table, 1, 10);
    put(before.ct, 1, 8000);
    put(before.ct, 2, 70);
    await datapath.settle();
    assert.deepEqual([expires(table, 1), expires(table, 2)], [10, 70]);
  });

  test('of a table whose resize was cut short both maps move, the current one over the other', async () => {
    using before = await older();
    const pin = join(before.bpffs, 'ipv4/ct_tcp');
    using outer = openPinnedMap(`${pin}_maps`);
    using next = await createTable('ipv4', 'ct_tcp', 4096);
    assert.ok(outer);
    const { maps, staging } = readLayoutRecord(before.bpffs);
    const layout = maps.get(before.ct.id);
    assert.ok(layout);
    writeLayoutRecord(before.bpffs, { maps: new Map([...maps, [next.id, layout]]), staging });
    before.ct.pin(previousPin(pin));
    next.pin(pin, { replace: true });
    outer.updateFd(PREVIOUS, before.ct);
    outer.updateFd(CURRENT, next);
    put(before.ct, 1, 60);
    put(before.ct, 2, 60);
    put(next, 2, 8000);
    put(next, 3, 70);
    using datapath = await start(before.bpffs);
    await datapath.carryOver();
    put(before.ct, 4, 90);
    await datapath.settle();
    const table = datapath.map('ipv4', 'ct_tcp');
    assert.equal(table.maxEntries, 4096);
    assert.deepEqual(
      [1, 2, 3, 4].map((sport) => expires(table, sport)),
      [60, 8000, 70, 90],
    );
    assert.equal(datapath.previous('ipv4', 'ct_tcp'), undefined);
    assert.equal(existsSync(previousPin(pin)), false);
    using again = await start(before.bpffs);
    assert.equal(again.map('ipv4', 'ct_tcp').id, table.id);
  });

  test('copies that no program has used are not kept by the next start', async () => {
    using before = await older();
    put(before.ct, 1, 60);
    put(before.ct, 2, 60);
    {
      using cut = await start(before.bpffs);
      await cut.carryOver();
    }
    put(before.ct, 1, 8000);
    before.ct.delete(key(2));
    using datapath = await start(before.bpffs);
    await datapath.carryOver();
    const table = datapath.map('ipv4', 'ct_tcp');
    assert.deepEqual([expires(table, 1), expires(table, 2)], [8000, undefined]);
  });

  test('tables that a program on a hook uses are gone on with, however many starts it takes', async () => {
    using before = await older();
    put(before.ct, 1, 60);
    let id: number;
    {
      using cut = await start(before.bpffs);
      await cut.carryOver();
      attachSome(before.bpffs, cut);
      put(cut.map('ipv4', 'ct_tcp'), 1, 9000);
      id = cut.map('ipv4', 'ct_tcp').id;
    }
    put(before.ct, 1, 8000);
    put(before.ct, 2, 70);
    (await start(before.bpffs))[Symbol.dispose]();
    using datapath = await start(before.bpffs);
    await datapath.carryOver();
    const table = datapath.map('ipv4', 'ct_tcp');
    assert.equal(table.id, id);
    assert.deepEqual([expires(table, 1), expires(table, 2)], [9000, 70]);
    await datapath.settle();
    assert.equal(existsSync(stagedPin(join(before.bpffs, 'ipv4/ct_tcp'))), false);
  });
} else {
  test('tables of another layout, and starts that were cut short', { skip: skipReason }, () => {
    const report = runInOwnNamespace(import.meta.filename);
    assert.equal(report, undefined, report);
  });
}
