import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { decode } from '../../agent/abi/codec.ts';
import { type CtEntry, layouts, type NatEntry } from '../../agent/abi/generated.ts';
import type { CollectorStatus } from '../../agent/engine/collector.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { datapathNow, readNodeState } from '../../agent/tables/clock.ts';
import { configure, nodeSettings, type Settings, sekishoJson } from '../lib/daemon.ts';
import { atLength } from '../lib/long.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { encodeKey, type FlowKey, KIND, reverseKey } from '../lib/tables.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

const [TCP, UDP] = [6, 17];
const PORT = 7000;
const TIMEOUT = atLength(2, 5);

/** What the node remembers of the pod's flow from `sport`; undefined where an entry is missing. */
function recall({ topo }: ManagedScene, family: Family, protocol: number, sport: number) {
  const { bpffs } = nth(topo.nodes);
  const { ct_entry, nat_entry } = layouts[family];
  using conntrack = openPinnedMap(join(bpffs, family, protocol === TCP ? 'ct_tcp' : 'ct_any'));
  using snat = openPinnedMap(join(bpffs, family, 'snat'));
  const [src, dst] = [nth(topo.pods).addresses[family], nth(topo.worldAddresses)[family]];
  const key: FlowKey = { src, dst, sport, dport: PORT, protocol, kind: KIND.OUT };
  const half = (at: FlowKey) => {
    const value = snat?.lookup(encodeKey(at));
    return value && (decode(nat_entry, value) as NatEntry);
  };
  const entry = conntrack?.lookup(encodeKey(key));
  const forward = half(key);
  const mapped = forward && { address: nth(topo.nodes).addresses[family], port: forward.port };
  return {
    entry: entry && (decode(ct_entry, entry) as CtEntry),
    forward,
    reverse: mapped && half(reverseKey(key, mapped)),
  };
}

type Memory = ReturnType<typeof recall>;
const has = (memory: Memory) => Object.values(memory).map((record) => record !== undefined);

test(`a flow of UDP is a new one after its timeout, whatever the collector does`, async (t) => {
  const settings = {
    conntrack: { timeouts: { any: `${TIMEOUT}s` }, accounting: true },
    gc: { interval: '10m' },
  };
  await using scene = await managedScene({ settings });
  const { bpffs } = nth(scene.topo.nodes);
  const now = () => datapathNow(readNodeState(bpffs));
  const [pod, sport] = [nth(scene.pods), 9000];
  const look = (family: Family) => recall(scene, family, UDP, sport);
  const collector = () => sekishoJson<CollectorStatus>(scene.topo, 'gc', 'status');
  const expired = (family: Family) =>
    until('the end of the flow', () => {
      const { entry, forward, reverse } = look(family);
      const ends = [entry, forward, reverse].map((record) => record?.expires ?? 0);
      return now() >= Math.max(...ends);
    });

  await until('the end of the first pass', async () => (await collector()).history.length > 0);
  for (const family of FAMILIES) {
    const host = nth(scene.topo.worldAddresses)[family];
    await scene.world.udpListen({ host, port: PORT });
    await pod.udpOpen({ tag: family, host, port: PORT, localPort: sport });
    for (let i = 0; i < 3; i++) await pod.udpExchange({ tag: family, attempts: 3 });
  }
  const first = FAMILIES.map(look);
  for (const { entry } of first) assert.ok(Number(entry?.packets) >= 6, 'one flow');

  await Promise.all(FAMILIES.map(expired));
  for (const [i, family] of FAMILIES.entries()) {
    assert.deepEqual(has(look(family)), [true, true, true], 'nobody has collected it');
    await pod.udpExchange({ tag: family, attempts: 1 });
    const { entry, forward, reverse } = look(family);
    assert.equal(Number(entry?.packets), 2, 'a question and its answer');
    for (const half of [forward, reverse]) {
      assert.ok((half?.created ?? 0) >= (first[i]?.entry?.expires ?? Infinity), 'a new mapping');
    }
    t.diagnostic(`${family}: port ${first[i]?.forward?.port}, then ${forward?.port}`);
  }

  await Promise.all(FAMILIES.map(expired));
  const { passes } = await sekishoJson<CollectorStatus>(scene.topo, 'gc', 'run');
  for (const family of FAMILIES) {
    assert.deepEqual(has(look(family)), [false, false, false]);
    const own = passes.filter((pass) => pass.family === family);
    const gone = own.reduce((sum, { deleted, natDeleted }) => sum + deleted + natDeleted, 0);
    assert.ok(gone >= 3, JSON.stringify(own));
  }
  const status = await collector();
  assert.deepEqual(
    status.history.map(({ reasons, status }) => [reasons, status]),
    [
      [['request'], 'completed'],
      [['start'], 'completed'],
    ],
  );
  assert.equal(status.intervalSeconds, 600);
});

test('what closes rests when its endpoint leaves, and everything else goes at once', async () => {
  const settings: Settings = { conntrack: { timeouts: { tcpClose: '10m' } } };
  await using scene = await managedScene({ settings });
  const pod = nth(scene.pods);
  for (const family of FAMILIES) {
    const host = nth(scene.topo.worldAddresses)[family];
    await scene.world.listen({ host, port: PORT });
    await pod.connect({ tag: `open ${family}`, host, port: PORT, localPort: 9000 });
    await pod.connect({ tag: `closed ${family}`, host, port: PORT, localPort: 9001 });
    await pod.close({ tag: `closed ${family}` });
    await until('both sides to have closed', () => {
      const { entry } = recall(scene, family, TCP, 9001);
      return entry && (entry.flags & 3) === 3;
    });
  }
  const rests = (family: Family) =>
    [9000, 9001].map((sport) => has(recall(scene, family, TCP, sport)));
  const [all, none] = [
    [true, true, true],
    [false, false, false],
  ];
  const change = async (addresses: string[] | undefined) => {
    const node = nth(scene.topo.nodes);
    const [endpoint] = nodeSettings(node).endpoints as Settings[];
    const endpoints = addresses ? [{ ...endpoint, addresses }] : [];
    configure(node, { ...settings, endpoints });
    scene.agent.signal('SIGHUP');
    await until('the reload', async () => {
      const listed = sekishoJson<{ addresses: string[] }[]>(scene.topo, 'endpoint', 'list');
      const [left] = await listed;
      return (left?.addresses.length ?? 0) === (addresses?.length ?? 0);
    });
  };

  assert.deepEqual(FAMILIES.map(rests), [
    [all, all],
    [all, all],
  ]);
  await change([nth(scene.topo.pods).addresses.ipv4]);
  await until('its other address to be gone', () => !rests('ipv6')[0]?.[0]);
  assert.deepEqual(
    [rests('ipv4'), rests('ipv6')],
    [
      [all, all],
      [none, all],
    ],
  );
  await change(undefined);
  await until('the rest to be gone', () => !rests('ipv4')[0]?.[0]);
  assert.deepEqual(
    [rests('ipv4'), rests('ipv6')],
    [
      [none, all],
      [none, all],
    ],
  );

  await change(Object.values(nth(scene.topo.pods).addresses));
  await until('a new endpoint without a past', () => !rests('ipv6')[1]?.[0]);
  assert.deepEqual(
    [rests('ipv4'), rests('ipv6')],
    [
      [none, none],
      [none, none],
    ],
  );
});
