import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { PortUsage } from '../../agent/engine/nat-ports.ts';
import { type CollectedTable, collectTable } from '../../agent/engine/pass.ts';
import { createPasses } from '../../agent/engine/passes.ts';
import type { ReapResult } from '../../agent/engine/reap.ts';
import { type ScrubbedTable, scrubAddresses } from '../../agent/engine/scrub.ts';
import type { Batch } from '../../agent/engine/walk.ts';
import { parseAddress } from '../../agent/lib/ip.ts';

const TCP = 6;
const ICMP = 1;
const OUT = 0;
const IN = 1;
const EXPIRES_OFFSET = 4;
const NAT_ADDRESS_OFFSET = 0;

interface FakeEntry {
  from: string;
  to: string;
  sport?: number;
  dport?: number;
  proto?: number;
  kind?: number;
  expires?: number;
  nat?: string;
}

function tuple({ from, to, sport = 0, dport = 0, proto = TCP, kind = OUT }: FakeEntry): Uint8Array {
  const addresses = [...parseAddress(from).bytes, ...parseAddress(to).bytes];
  const ports = [sport >> 8, sport & 255, dport >> 8, dport & 255];
  return Uint8Array.from([...addresses, ...ports, proto, kind, 0, 0]);
}

function value({ expires = 0, nat = '0.0.0.0' }: FakeEntry): Uint8Array {
  const bytes = new Uint8Array(8);
  bytes.set(parseAddress(nat).bytes.subarray(0, 4), NAT_ADDRESS_OFFSET);
  new DataView(bytes.buffer).setUint32(EXPIRES_OFFSET, expires, true);
  return bytes;
}

/** Batches share one buffer, as those of a real map do. */
async function* batches(entries: FakeEntry[], size: number): AsyncGenerator<Batch> {
  const keySize = tuple({ from: '10.0.0.1', to: '10.0.0.1' }).length;
  const keys = new Uint8Array(size * keySize);
  const values = new Uint8Array(size * 8);
  for (let start = 0; start < entries.length; start += size) {
    const batch = entries.slice(start, start + size);
    batch.forEach((entry, i) => {
      keys.set(tuple(entry), i * keySize);
      values.set(value(entry), i * 8);
    });
    yield { keys, values, count: batch.length };
    await delay(0);
  }
}

function table(
  name: 'ct_tcp' | 'snat',
  entries: FakeEntry[],
  batchSize = 3,
): CollectedTable & ScrubbedTable {
  return {
    family: 'ipv4',
    table: name,
    capacity: 1000,
    keySize: 16,
    valueSize: 8,
    expiresOffset: EXPIRES_OFFSET,
    mapping: { address: 0, port: 0 },
    classes: ['some'],
    classOf: () => 0,
    ...(name === 'snat' && { natAddressOffset: NAT_ADDRESS_OFFSET }),
    lookupBatch: () => batches(entries, batchSize),
  };
}

/** Records the source ports of the keys it is given. */
function fakeReap(result: Partial<ReapResult> = {}) {
  const calls: number[][] = [];
  const reap = async (_family: string, _table: string, keys: Uint8Array, count: number) => {
    const view = new DataView(keys.buffer, keys.byteOffset);
    calls.push(Array.from({ length: count }, (_, i) => view.getUint16(i * 16 + 8)));
    const none = { skipped: 0, natDeleted: 0, failed: 0, completed: 0, now: 0 };
    return { deleted: count, ...none, ...result };
  };
  return { calls, reap };
}

const turnover = () => ({ created: 0, deleted: 0 });

const flow = (sport: number, expires: number): FakeEntry => ({
  from: '10.0.1.10',
  to: '203.0.113.1',
  sport,
  dport: 443,
  expires,
});

test('exactly the entries that have expired are handed to the reaper', async () => {
  const entries = [1, 2, 3, 4, 5, 6, 7].map((n) => flow(n, 95 + n));
  const { calls, reap } = fakeReap();
  const result = await collectTable(table('ct_tcp', entries), { reap, now: () => 100, turnover });
  assert.deepEqual(calls, [[1, 2, 3, 4, 5]]);
  assert.equal(result.alive, 2);
  assert.equal(result.deleted, 5);
  assert.equal(result.nat, undefined);
});

test('what the reaper found alive again stays alive', async () => {
  const { reap } = fakeReap({ deleted: 1, skipped: 2, natDeleted: 2 });
  const entries = [flow(1, 1), flow(2, 1), flow(3, 1), flow(4, 200)];
  const result = await collectTable(table('ct_tcp', entries), { reap, now: () => 100, turnover });
  assert.equal(result.alive, 3);
  assert.equal(result.skipped, 2);
  assert.equal(result.natDeleted, 2);
});

test('expired keys travel in reaps of at most 4096', async () => {
  const entries = Array.from({ length: 5000 }, (_, i) => flow(i, 1));
  const { calls, reap } = fakeReap();
  const result = await collectTable(table('ct_tcp', entries, 1000), {
    reap,
    now: () => 100,
    turnover,
  });
  assert.deepEqual(
    calls.map((keys) => keys.length),
    [4096, 904],
  );
  assert.equal(result.deleted, 5000);
});

test('a NAT pass counts by direction, and asks again for what was just claimed', async () => {
  const entries: FakeEntry[] = [
    flow(1, 50),
    { ...flow(2, 0) },
    flow(3, 500),
    { from: '203.0.113.1', to: '192.0.2.1', sport: 443, dport: 3, kind: IN, expires: 500 },
    { from: '203.0.113.1', to: '192.0.2.1', sport: 443, dport: 4, kind: IN, expires: 500 },
    { from: '203.0.113.1', to: '192.0.2.1', sport: 443, dport: 1, kind: IN, expires: 50 },
  ];
  const [expired, claimed] = [fakeReap(), fakeReap({ deleted: 0, skipped: 1 })];
  const result = await collectTable(table('snat', entries), {
    reap: (family, name, keys, count, options) =>
      (options?.mode === 'claimed' ? claimed : expired).reap(family, name, keys, count),
    now: () => 100,
    turnover,
  });
  assert.deepEqual([expired.calls, claimed.calls], [[[1], [443]], [[2]]]);
  assert.equal(result.skipped, 1);
  assert.deepEqual(result.nat, {
    alive: { egress: 2, ingress: 2 },
    deleted: { egress: 1, ingress: 1 },
    portsUsedMax: 2,
  });
});

test('evictions are what was created and is neither deleted nor there', async () => {
  const readings = [
    { created: 100, deleted: 40 },
    { created: 120, deleted: 41 },
  ];
  const { reap } = fakeReap();
  const options = { reap, now: () => 100, turnover: () => readings.shift() ?? turnover() };
  const result = await collectTable(table('ct_tcp', [flow(1, 1), flow(2, 200)]), options);
  assert.equal(result.evicted, 100 - 41 - 1);
});

test('nothing is known of evictions while another map has some of the entries', async () => {
  const { reap } = fakeReap();
  const options = { reap, now: () => 100, turnover: () => ({ created: 100, deleted: 0 }) };
  const halfway = { ...table('ct_tcp', [flow(2, 200)]), isHalfway: true };
  assert.equal((await collectTable(halfway, options)).evicted, 0);
});

test('ports are counted by protocol, egress address, remote address and remote port', () => {
  const usage = new PortUsage();
  const add = (entry: FakeEntry) => {
    const key = tuple({ kind: IN, ...entry });
    usage.add(new DataView(key.buffer), 0, key.length);
  };
  const remote = { from: '203.0.113.1', to: '192.0.2.1', sport: 443 };
  for (let port = 1; port <= 10; port++) add({ ...remote, dport: port });
  assert.equal(usage.max, 10);
  for (let port = 1; port <= 10; port++) {
    add({ ...remote, sport: 80, dport: port });
    add({ ...remote, from: '203.0.113.2', dport: port });
    add({ ...remote, proto: ICMP, dport: port });
  }
  assert.equal(usage.max, 10);
  add({ ...remote, dport: 11 });
  assert.equal(usage.max, 11);
});

test('triggers before a pass begins share it, and passes never overlap', async () => {
  let running = 0;
  let most = 0;
  let count = 0;
  const passes = createPasses(async () => {
    most = Math.max(most, ++running);
    await delay(20);
    running--;
    return ++count;
  }, 0);
  const first = passes.trigger();
  assert.equal(passes.trigger(), first);
  await delay(5);
  const second = passes.trigger();
  assert.equal(passes.trigger(), second);
  assert.deepEqual(await Promise.all([first, second]), [1, 2]);
  assert.equal(most, 1);
  await passes.stop();
});

test('passes keep their distance', async () => {
  const starts: number[] = [];
  const passes = createPasses(async () => starts.push(performance.now()), 60);
  await passes.trigger();
  await passes.trigger();
  const [first = 0, second = 0] = starts;
  assert.ok(second - first >= 58, `${second - first} ms apart`);
  await passes.stop();
});

test('a failed pass rejects its trigger and does not stop the next', async () => {
  let count = 0;
  const passes = createPasses(async () => {
    if (++count === 1) throw new Error('once');
    return count;
  }, 0);
  await assert.rejects(passes.trigger(), /once/);
  assert.equal(await passes.trigger(), 2);
  await passes.stop();
});

test('after a stop no pass begins', async () => {
  let count = 0;
  const passes = createPasses(async () => ++count, 10_000);
  await passes.trigger();
  const waiting = passes.trigger();
  await Promise.all([assert.rejects(waiting), passes.stop()]);
  assert.equal(count, 1);
});

test('a scrub deletes what names the address as source, destination or translated', async () => {
  const entries: FakeEntry[] = [
    { from: '10.0.1.10', to: '203.0.113.1', sport: 1 },
    { from: '203.0.113.1', to: '10.0.1.10', sport: 2 },
    { from: '10.0.1.11', to: '203.0.113.1', sport: 3 },
    { from: '203.0.113.1', to: '192.0.2.1', sport: 4, nat: '10.0.1.10' },
    { from: '10.0.2.10', to: '10.1.1.10', sport: 5 },
  ];
  const { calls: reaped, reap } = fakeReap();
  const force = async (...args: Parameters<typeof reap>) => (await reap(...args)).deleted;
  const addresses = [parseAddress('10.0.1.10').bytes, parseAddress('fd00::10').bytes];
  const deleted = await scrubAddresses([table('snat', entries)], addresses, force);
  assert.equal(deleted, 3);
  assert.deepEqual(reaped.flat(), [1, 2, 4]);
});
