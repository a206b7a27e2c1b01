import assert from 'node:assert/strict';
import { readFileSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { listAttachments } from '../../agent/engine/attach.ts';
import { createMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { formatAddress } from '../../agent/lib/ip.ts';
import { datapathNow, readNodeState } from '../../agent/tables/clock.ts';
import { listDevices } from '../../agent/tables/devices.ts';
import { sekisho, startAgent } from '../lib/daemon.ts';
import { scrape } from '../lib/metrics.ts';
import { managedScene, nth } from '../lib/scene.ts';
import { KIND, openTable } from '../lib/tables.ts';
import { until } from '../lib/wait.ts';
import { call, insertFlow } from './support.ts';

const SMALL = { maps: { ctTcp: 4096, ctAny: 2048, nat: 4096 } };
const FLOW = {
  src: '10.0.1.200',
  dst: '203.0.113.99',
  sport: 4000,
  dport: 80,
  protocol: 6,
  kind: KIND.OUT,
};

test('state outlives the daemon', async (t) => {
  await using scene = await managedScene({ settings: SMALL });
  const { bpffs } = nth(scene.topo.nodes);
  const before = readNodeState(bpffs);
  const id = mapId(join(bpffs, 'ipv4', 'snat'));
  await scene.agent.kill9();
  const agent = await startAgent(scene.topo, { maps: { ...SMALL.maps, ctTcp: 8192 } });

  await t.test('the key of the port sequence and the clock', () => {
    const after = readNodeState(bpffs);
    assert.deepEqual(after.secret, before.secret);
    assert.notDeepEqual(after.secret, [0n, 0n]);
    assert.equal(after.hz, before.hz);
    assert.ok(Math.abs(datapathNow(after) - datapathNow(before)) <= 1);
  });

  await t.test('the tables, with the size they were made with', () => {
    assert.equal(mapId(join(bpffs, 'ipv4', 'snat')), id);
    using table = openPinnedMap(join(bpffs, 'ipv4', 'ct_tcp'));
    assert.equal(table?.maxEntries, 4096);
    const warned = agent.logs.filter(({ table: name }) => name === 'ct_tcp');
    assert.deepEqual(
      warned.map(({ family, capacity, configured }) => [family, capacity, configured]),
      [
        ['ipv4', 4096, 8192],
        ['ipv6', 4096, 8192],
      ],
    );
  });
});

test('a crash between two pins is made good by the next start', async () => {
  await using scene = await managedScene({ settings: SMALL });
  const { bpffs } = nth(scene.topo.nodes);
  const id = mapId(join(bpffs, 'ipv4', 'ct_tcp'));
  await scene.agent.kill9();
  unlinkSync(join(bpffs, 'ipv4', 'ct_tcp'));
  unlinkSync(join(bpffs, 'ipv6', 'ct_any_maps'));
  unlinkSync(join(bpffs, 'ipv6', 'devices'));
  await startAgent(scene.topo, SMALL);
  assert.equal(mapId(join(bpffs, 'ipv4', 'ct_tcp')), id);
  using outer = openPinnedMap(join(bpffs, 'ipv6', 'ct_any_maps'));
  assert.equal(outer?.lookupId(new Uint8Array(4)), mapId(join(bpffs, 'ipv6', 'ct_any')));
  assert.equal(listDevices(bpffs, 'ipv6').length, 1);
});

test('a layout of another version is refused, and nothing is changed', async () => {
  await using scene = await managedScene({ settings: SMALL });
  const { bpffs } = nth(scene.topo.nodes);
  await scene.agent.stop();
  const path = join(bpffs, 'ipv6', 'endpoints');
  using foreign = createMap({
    type: 'hash',
    name: 'endpoints',
    keySize: 16,
    valueSize: 64,
    maxEntries: 8,
  });
  foreign.pin(path, { replace: true });
  const programs = attachedPrograms(bpffs);
  const { code, stderr } = await sekisho(scene.topo, 'agent');
  assert.equal(code, 1);
  assert.match(stderr, /^sekisho: .*ipv6\/endpoints is of another version.*sekisho cleanup.*\n$/);
  assert.deepEqual(attachedPrograms(bpffs), programs);
  assert.equal(mapId(path), foreign.id);
});

test('devices follow addresses and default routes', async (t) => {
  const settings = { ...SMALL, node: { name: 'a', podCIDRs: ['10.0.1.0/24'] } };
  await using scene = await managedScene({ settings });
  const { ns, bpffs, addresses } = nth(scene.topo.nodes);
  const egress = () =>
    listDevices(bpffs, 'ipv4').map(({ addr, flags }) => [formatAddress(addr), flags]);

  await t.test('the device of the default route is attached', () => {
    assert.deepEqual(egress(), [[addresses.ipv4, 1]]);
  });

  await t.test('another address takes over when the first one goes', async () => {
    await ns.ip('addr add 192.168.1.77/32 dev eth0', `addr del ${addresses.ipv4}/24 dev eth0`);
    await until('the new address', () => egress()[0]?.[0] === '192.168.1.77');
  });

  await t.test('a device whose default route is gone stays attached', async () => {
    await ns.ip('route del ::/0');
    await scene.agent.kill9();
    await startAgent(scene.topo, settings);
    const { body } = await call(scene, 'GET', '/v1/status');
    assert.deepEqual(body.devices, ['eth0']);
    assert.equal(body.healthy, true);
  });
});

test('a pass deletes exactly what has expired, and tells the metrics', async () => {
  await using scene = await managedScene({ settings: SMALL });
  const { bpffs } = nth(scene.topo.nodes);
  const now = datapathNow(readNodeState(bpffs));
  const live = { ...FLOW, sport: 1 };
  insertFlow(bpffs, FLOW, now - 1);
  insertFlow(bpffs, live, now + 100);
  const { body } = await call(scene, 'POST', '/v1/gc/run');
  const pass = body.passes.find(
    (done: { family: string; table: string }) => done.family === 'ipv4' && done.table === 'ct_tcp',
  );
  assert.equal(pass.alive, 1);
  assert.equal(pass.deleted, 1);
  using table = openTable(nth(scene.topo.nodes), 'ipv4', 'ct_tcp');
  assert.equal(table.has(FLOW), false);
  assert.equal(table.has(live), true);
  const metrics = await scrape(scene.topo);
  const labels = { family: 'ipv4', protocol: 'tcp', status: 'deleted' };
  assert.equal(metrics.sum('sekisho_conntrack_gc_entries', labels), 1);
  assert.equal(metrics.sum('sekisho_map_entries', { map: 'ipv4/ct_tcp' }), 1);
});

test('evictions are told exactly at rest, and never fewer by the next daemon', async () => {
  await using scene = await managedScene({ settings: SMALL });
  const [node, pod] = [nth(scene.topo.nodes), nth(scene.pods)];
  const evictions = async () => {
    await call(scene, 'POST', '/v1/gc/run');
    return (await scrape(scene.topo)).sum('sekisho_map_evictions_total', { map: 'ipv4/ct_tcp' });
  };
  const host = nth(scene.topo.worldAddresses).ipv4;
  await scene.world.listen({ host, port: 7000 });
  await pod.connectMany({ prefix: 'flow', host, port: 7000, count: 5 });
  assert.equal(await evictions(), 0);
  using table = openTable(node, 'ipv4', 'ct_tcp');
  const lost = (await table.entries()).slice(0, 3);
  for (const { key } of lost) assert.ok(table.delete(key));
  assert.equal(await evictions(), 3);

  await scene.agent.kill9();
  for (const sport of [1, 2]) insertFlow(node.bpffs, { ...FLOW, sport });
  await startAgent(scene.topo, SMALL);
  assert.equal(await evictions(), 3, 'although fewer seem to be missing');
  for (const sport of [1, 2]) assert.ok(table.delete({ ...FLOW, sport }));
  assert.equal(await evictions(), 3);
});

test('every metric that is documented is there, and the other way round', async () => {
  await using scene = await managedScene({ settings: SMALL });
  const page = readFileSync(join(import.meta.dirname, '../../docs/metrics.md'), 'utf8');
  const documented = [...page.matchAll(/^\| `(sekisho_\w+)` /gm)].map(([, name]) => name);
  await call(scene, 'POST', '/v1/gc/run');
  const { text } = await scrape(scene.topo);
  const served = [...text.matchAll(/^# TYPE (sekisho_\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(served.sort(), documented.sort());
});

function mapId(path: string): number | undefined {
  using map = openPinnedMap(path);
  return map?.id;
}

function attachedPrograms(bpffs: string): number[] {
  const programs = listAttachments(bpffs).map(({ programId }) => programId);
  assert.equal(programs.length, 8);
  return programs;
}
