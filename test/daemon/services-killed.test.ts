import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode, encode } from '../../agent/abi/codec.ts';
import { layouts } from '../../agent/abi/generated.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { formatEndpoint } from '../../agent/lib/ip.ts';
import { kernelTables } from '../../agent/services/kernel-tables.ts';
import { openTableRecord } from '../../agent/services/table-record.ts';
import type { ServiceView } from '../../agent/services/view.ts';
import { readBackendTable } from '../../agent/tables/backend-tables.ts';
import { startAgent } from '../lib/daemon.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { encodeKey } from '../lib/tables.ts';
import { affordably } from '../lib/wait.ts';
import { call } from './support.ts';

const SETTINGS = { maps: { ctTcp: 4096, ctAny: 2048, nat: 4096 } };
const SERVICES = affordably(400);
const ROUNDS = 4;
const [OUT, SVC] = [0, 4];

/** Where the backends of a service are in one version of the desired state. */
function backendsOf(service: number, version: number): string[] {
  const shared = `10.0.2.${service % 250}`;
  return [shared, `10.0.${10 + version}.${service % 250}`];
}

function state(version: number): object[] {
  return Array.from({ length: SERVICES }, (_, i) => ({
    name: `s${i}`,
    frontends: [{ address: `10.96.${i >> 8}.${i & 255}`, port: 80 }],
    backends: backendsOf(i, version).map((address) => ({ address, port: 8000 })),
  }));
}

/** Which backends each frontend leads to, by its table and what that names. */
async function served(scene: ManagedScene): Promise<Map<string, string[]>> {
  const { bpffs } = nth(scene.topo.nodes);
  using stack = new DisposableStack();
  const open = (name: string) => {
    const map = openPinnedMap(join(bpffs, 'ipv4', name));
    assert.ok(map, name);
    return stack.use(map);
  };
  const tables = kernelTables('ipv4', open, stack.use(openTableRecord(bpffs)));
  const outer = open('backend_tables');
  const backends = new Map((await tables.backends.read()).map((row) => [row.id, row]));
  const revNat = new Map((await tables.revNat.read()).map((row) => [row.index, row]));
  const found = new Map<string, string[]>();
  for (const row of await tables.services.read()) {
    if (row.port === 0) continue;
    const frontend = formatEndpoint(row.addr, row.port);
    const back = revNat.get(row.rev_nat_index);
    assert.ok(back && formatEndpoint(back.addr, back.port) === frontend, frontend);
    const ids = new Set(readBackendTable(outer, 'ipv4', { serviceId: row.id, scope: row.scope }));
    const addresses = [...ids].map((id) => {
      const backend = backends.get(id);
      assert.equal(backend?.service_id, row.id, `backend ${id} of ${frontend}`);
      return formatEndpoint(backend.addr, backend.port);
    });
    found.set(frontend, addresses.sort());
  }
  return found;
}

test('killed in the middle of a large change, each service is as it was or as it is to be', async () => {
  await using scene = await managedScene({ settings: SETTINGS });
  const apply = (version: number) =>
    call(scene, 'POST', '/v1/services', { services: state(version) });
  assert.equal((await apply(0)).status, 200);
  let { agent } = scene;
  for (let round = 1; round <= ROUNDS; round++) {
    const answer = apply(round).catch(() => undefined);
    await sleep(Math.random() * affordably(SERVICES));
    await agent.kill9();
    await answer;
    const before = await served(scene);
    assert.equal(before.size, SERVICES);
    for (const [i, [frontend, backends]] of inOrder(before).entries()) {
      const known = [round - 1, round].map((version) => withPort(backendsOf(i, version)));
      assert.ok(
        known.some((list) => list.join() === backends.join()),
        `${frontend}: ${backends}`,
      );
    }
    agent = await startAgent(scene.topo, SETTINGS);
    const [finished] = inOrder(await served(scene));
    const kept = finished?.[1].join() === withPort(backendsOf(0, round)).join() ? round : round - 1;
    for (const [i, [frontend, backends]] of inOrder(await served(scene)).entries()) {
      assert.deepEqual(backends, withPort(backendsOf(i, kept)), `${frontend} after the start`);
    }
    assert.equal((await apply(round)).status, 200);
    for (const [i, [frontend, backends]] of inOrder(await served(scene)).entries()) {
      assert.deepEqual(backends, withPort(backendsOf(i, round)), frontend);
    }
  }
});

test('a service takes its entries of connections with it, and a UDP backend its own', async () => {
  await using scene = await managedScene({ settings: SETTINGS });
  const { bpffs } = nth(scene.topo.nodes);
  const addresses = ['10.0.2.1', '10.0.2.2'];
  const dns = (list: string[]) => ({
    name: 'dns',
    frontends: [{ address: '10.96.0.10', port: 53, protocol: 'UDP' }],
    backends: list.map((address) => ({ address, port: 53 })),
  });
  await call(scene, 'POST', '/v1/services', dns(addresses));
  const view: ServiceView = (await call(scene, 'GET', '/v1/services/dns')).body;
  using map = openPinnedMap(join(bpffs, 'ipv4', 'ct_any'));
  assert.ok(map);
  const keyOf = (sport: number) =>
    encodeKey({ src: '10.0.1.10', dst: '10.96.0.10', sport, dport: 53, protocol: 17, kind: SVC });
  for (const [i, { id }] of view.backends.entries()) {
    const entry = {
      expires: 0xffff_ffff,
      backend_id: id,
      rev_nat_index: view.frontends[0]?.revNatIndex ?? 0,
    };
    map.update(keyOf(1000 + i), encode(layouts.ipv4.ct_entry, entry));
  }
  const isThere = (key: Uint8Array) => {
    const value = map.lookup(key);
    return value !== undefined && decode(layouts.ipv4.ct_entry, value).expires > 0;
  };
  const left = () => [1000, 1001].filter((port) => isThere(keyOf(port)));
  const flowTo = { src: '10.0.1.10', dst: '10.0.2.1', dport: 53, protocol: 17, kind: OUT };
  const [own, other] = [1000, 1002].map((sport) => encodeKey({ ...flowTo, sport }));
  assert.ok(own && other);
  const { revNatIndex = 0 } = view.frontends[0] ?? {};
  const flow = { expires: 0xffff_ffff };
  map.update(own, encode(layouts.ipv4.ct_entry, { ...flow, rev_nat_index: revNatIndex }));
  map.update(other, encode(layouts.ipv4.ct_entry, flow));
  assert.deepEqual(left(), [1000, 1001]);
  await call(scene, 'POST', '/v1/services', dns(addresses.slice(0, 1)));
  assert.deepEqual(left(), [1000]);
  assert.deepEqual([isThere(own), isThere(other)], [true, true]);
  await call(scene, 'DELETE', '/v1/services/dns');
  assert.deepEqual([...left(), isThere(own), isThere(other)], [false, true]);
});

function inOrder(services: Map<string, string[]>): [string, string[]][] {
  const place = (frontend: string) => {
    const [, , c = 0, d = 0] = frontend.split(/[.:]/).map(Number);
    return c * 256 + d;
  };
  return [...services].sort(([a], [b]) => place(a) - place(b));
}

function withPort(addresses: string[]): string[] {
  return addresses.map((address) => `${address}:8000`).sort();
}
