import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encode } from '../../agent/abi/codec.ts';
import { counter, layouts } from '../../agent/abi/generated.ts';
import { createMap } from '../../agent/kernel/map.ts';
import { MAP_FLAGS } from '../../agent/kernel/map-types.ts';
import { possibleCpus } from '../../agent/kernel/system.ts';
import { parseAddress, parsePrefix } from '../../agent/lib/ip.ts';
import { findNodeState, readNodeState } from '../../agent/tables/clock.ts';
import { walkConntrack } from '../../agent/tables/conntrack.ts';
import { readCounters } from '../../agent/tables/counters.ts';
import { deleteDevice, listDevices, readDevices, setDevice } from '../../agent/tables/devices.ts';
import {
  deleteEndpoint,
  listEndpoints,
  readEndpoints,
  setEndpoint,
} from '../../agent/tables/endpoints.ts';
import { deletePrefix, readPrefixes, setPrefix } from '../../agent/tables/prefixes.ts';
import { encodeTuple } from '../../agent/tables/tuple.ts';
import { mountBpffs, skipReason } from './sandbox.ts';

const { ipv4 } = layouts;

test('a table of connections streams decoded', { skip: skipReason }, async () => {
  using bpffs = mountBpffs();
  mkdirSync(join(bpffs.path, 'ipv4'));
  const sizes = { keySize: ipv4.tuple.size, valueSize: ipv4.ct_entry.size, maxEntries: 65_536 };
  using map = createMap({ type: 'lru_hash', name: 'ct_tcp', ...sizes });
  const [saddr, daddr] = [parseAddress('10.0.1.10').bytes, parseAddress('203.0.113.45').bytes];
  for (let sport = 1; sport <= 10_000; sport++) {
    const tuple = { saddr, daddr, sport, dport: 443, proto: 6, kind: 0 };
    map.update(encodeTuple('ipv4', tuple), encode(ipv4.ct_entry, { expires: sport + 5 }));
  }
  map.pin(join(bpffs.path, 'ipv4/ct_tcp'));
  let count = 0;
  await walkConntrack(bpffs.path, 'ipv4', 'ct_tcp', (tuple, entry) => {
    assert.equal(entry.expires, tuple.sport + 5);
    count++;
    return undefined;
  });
  assert.equal(count, 10_000);
});

test('missing and foreign pins have their codes', { skip: skipReason }, async () => {
  using bpffs = mountBpffs();
  mkdirSync(join(bpffs.path, 'ipv4'));
  const walk = walkConntrack(bpffs.path, 'ipv4', 'ct_any', () => undefined);
  await assert.rejects(walk, { code: 'E_NO_MAPS' });
  assert.equal(findNodeState(bpffs.path), undefined);
  assert.throws(() => listEndpoints(bpffs.path, 'ipv4'), { code: 'E_NO_MAPS' });
  const shape = { type: 'hash', name: 'devices', keySize: 4, valueSize: 4, maxEntries: 4 } as const;
  using map = createMap(shape);
  map.pin(join(bpffs.path, 'ipv4/devices'));
  assert.throws(() => listDevices(bpffs.path, 'ipv4'), { code: 'E_LAYOUT' });
});

test('rows are set, read and deleted', { skip: skipReason }, () => {
  const { device, endpoint, prefix, prefix_key } = ipv4;
  using devices = createMap({
    type: 'hash',
    name: 'devices',
    keySize: 4,
    valueSize: device.size,
    maxEntries: 8,
  });
  const addr = parseAddress('192.168.1.5').bytes;
  const row = { ifindex: 3, addr, port_min: 32_768, port_max: 65_535, flags: 1, tunnel_addr: 0 };
  setDevice(devices, 'ipv4', row);
  assert.deepEqual(readDevices(devices, 'ipv4'), [row]);
  assert.equal(deleteDevice(devices, 3), true);

  using endpoints = createMap({
    type: 'hash',
    name: 'endpoints',
    keySize: 4,
    valueSize: endpoint.size,
    maxEntries: 8,
  });
  setEndpoint(endpoints, 'ipv4', addr, { ifindex: 7, id: 1 });
  const [found] = readEndpoints(endpoints, 'ipv4');
  assert.deepEqual(found?.addr, addr);
  assert.equal(found?.endpoint.ifindex, 7);
  assert.equal(found?.endpoint.identity, 0);
  assert.equal(deleteEndpoint(endpoints, addr), true);

  using prefixes = createMap({
    type: 'lpm_trie',
    name: 'prefixes',
    keySize: prefix_key.size,
    valueSize: prefix.size,
    maxEntries: 8,
    flags: MAP_FLAGS.noPrealloc,
  });
  const wide = { prefix: parsePrefix('10.0.0.0/8'), identity: 0, flags: 1, tunnel: 0xc0a8_0106 };
  setPrefix(prefixes, wide);
  assert.deepEqual(readPrefixes(prefixes, 'ipv4'), [wide]);
  assert.equal(deletePrefix(prefixes, wide.prefix), true);
});

test('counters are summed over the CPUs', { skip: skipReason }, () => {
  const shape = { type: 'percpu_array', name: 'counters', keySize: 4, valueSize: 8 } as const;
  using map = createMap({ ...shape, maxEntries: counter.COUNTER_COUNT });
  const values = new Uint8Array(BigUint64Array.from({ length: possibleCpus() }, () => 2n).buffer);
  map.update(Uint8Array.of(counter.COUNTER_CREATED, 0, 0, 0), values);
  const counters = readCounters(map);
  assert.equal(counters.created.ct_tcp, 2 * possibleCpus());
  assert.equal(counters.created.snat, 0);
});

test('the state of the node is read back', { skip: skipReason }, () => {
  using bpffs = mountBpffs();
  const { node_state } = ipv4;
  const shape = { type: 'array', name: 'node', keySize: 4, maxEntries: 1 } as const;
  using map = createMap({ ...shape, valueSize: node_state.size });
  const state = { secret: [1n, 2n], clock_delta_ns: -5n, hz: 250 };
  map.update(new Uint8Array(4), encode(node_state, state));
  map.pin(join(bpffs.path, 'node'));
  assert.deepEqual(readNodeState(bpffs.path), state);
});
