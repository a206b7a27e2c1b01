import assert from 'node:assert/strict';
import { test } from 'node:test';
import { monotonicNs } from '../../agent/kernel/fs.ts';
import { parseAddress } from '../../agent/lib/ip.ts';
import { datapathNow } from '../../agent/tables/clock.ts';
import { nameCounters } from '../../agent/tables/counters.ts';
import { CONNECTION_TABLES, DROP_REASONS, HOOKS, VERDICTS } from '../../agent/tables/names.ts';
import { decodeTuple, encodeTuple } from '../../agent/tables/tuple.ts';

test('labels are the names of the enums by their numbers', () => {
  assert.deepEqual(HOOKS, ['from_endpoint', 'to_endpoint', 'from_netdev', 'to_netdev']);
  assert.deepEqual(VERDICTS, ['pass', 'deliver', 'forward', 'drop']);
  assert.deepEqual(CONNECTION_TABLES, ['ct_tcp', 'ct_any', 'snat']);
  assert.equal(DROP_REASONS[0], 'none');
  assert.equal(DROP_REASONS[11], 'half_lost');
  assert.ok(DROP_REASONS.every((reason) => /^[a-z_]+$/.test(reason)));
});

test('every counter has its place', () => {
  const counters = nameCounters(Array.from({ length: 206 }, (_, i) => i));
  assert.equal(counters.packets.from_endpoint.pass, 0);
  assert.equal(counters.packets.to_netdev.drop, 15);
  assert.equal(counters.drops.to_endpoint.malformed, 16 + 32 + 1);
  assert.deepEqual(counters.created, { ct_tcp: 144, ct_any: 145, snat: 146 });
  assert.deepEqual(counters.deleted, { ct_tcp: 147, ct_any: 148, snat: 149 });
  assert.deepEqual(counters.restored, { forward: 150, reverse: 151, adopted: 152 });
  assert.equal(counters.updateErrors.snat.other, 170);
  assert.equal(counters.natAttempts.length, 34);
  assert.equal(counters.natAttempts.at(-1), 204);
  assert.equal(counters.eventsLost, 205);
});

test('a tuple is written in network order, as the datapath keys it', () => {
  const tuple = {
    saddr: parseAddress('10.0.1.10').bytes,
    daddr: parseAddress('203.0.113.45').bytes,
    sport: 40_000,
    dport: 443,
    proto: 6,
    kind: 0,
  };
  const key = encodeTuple('ipv4', tuple);
  assert.equal(Buffer.from(key).toString('hex'), '0a00010acb00712d9c4001bb06000000');
  assert.deepEqual(decodeTuple('ipv4', key), tuple);
});

test('an IPv6 tuple is 40 bytes', () => {
  const addresses = ['fd00:1::10', '2001:db8::1'].map((text) => parseAddress(text).bytes);
  const [saddr, daddr] = addresses as [Uint8Array, Uint8Array];
  const tuple = { saddr, daddr, sport: 1, dport: 2, proto: 17, kind: 1 };
  const key = encodeTuple('ipv6', tuple);
  assert.equal(key.length, 40);
  assert.deepEqual([...key.subarray(32)], [0, 1, 0, 2, 17, 1, 0, 0]);
  assert.deepEqual(decodeTuple('ipv6', key), tuple);
});

test('datapath time is the monotonic clock shifted', () => {
  const now = Number(monotonicNs() / 1_000_000_000n);
  const shifted = datapathNow({ clock_delta_ns: 1000n * 1_000_000_000n });
  assert.ok(shifted - now >= 999 && shifted - now <= 1002);
});
