import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ReloadStatus, Status } from '../../agent/daemon/status.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { parseAddress } from '../../agent/lib/ip.ts';
import { kernelTables } from '../../agent/services/kernel-tables.ts';
import { openTableRecord } from '../../agent/services/table-record.ts';
import type { ServiceTables } from '../../agent/services/tables.ts';
import type { ApplyResult, BackendView, ServiceView } from '../../agent/services/view.ts';
import { readBackendTable } from '../../agent/tables/backend-tables.ts';
import {
  BINARY,
  configure,
  launchAgent,
  nodeSettings,
  type Settings,
  sekisho,
  startAgent,
} from '../lib/daemon.ts';
import { scrape } from '../lib/metrics.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { until } from '../lib/wait.ts';
import { call } from './support.ts';

const MAPS = { ctTcp: 4096, ctAny: 2048, nat: 4096 };
const VIP = '10.96.0.1';

const ELSEWHERE = [{ address: '10.96.0.9', port: 80 }];

function web(overrides: object = {}): object {
  return {
    name: 'web',
    frontends: [{ address: VIP, port: 80 }],
    backends: [
      { address: '10.0.1.10', port: 8000 },
      { address: '10.0.2.10', port: 8000, weight: 3 },
    ],
    ...overrides,
  };
}

/** The pinned maps of IPv4, as typed rows. */
function pinned(scene: ManagedScene, stack: DisposableStack): ServiceTables {
  const { bpffs } = nth(scene.topo.nodes);
  const open = (name: string) => {
    const map = openPinnedMap(join(bpffs, 'ipv4', name));
    assert.ok(map, name);
    return stack.use(map);
  };
  return kernelTables('ipv4', open, stack.use(openTableRecord(bpffs)));
}

async function rowsOf(scene: ManagedScene) {
  using stack = new DisposableStack();
  const tables = pinned(scene, stack);
  return {
    services: await tables.services.read(),
    backends: await tables.backends.read(),
    addresses: await tables.addresses.read(),
    revNat: await tables.revNat.read(),
    tables: await tables.backendTables.read(),
  };
}

/** The command, for a daemon that may not look at maps by their ids. */
function withoutSysAdmin({ topo }: ManagedScene): string {
  const path = join(topo.directory, 'sekisho');
  const command = `exec setpriv --bounding-set -sys_admin '${BINARY}' "$@"`;
  writeFileSync(path, `#!/bin/sh\n${command}\n`, { mode: 0o755 });
  return path;
}

async function get(scene: ManagedScene, name: string): Promise<ServiceView> {
  const { status, body } = await call(scene, 'GET', `/v1/services/${name}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

async function reload(scene: ManagedScene, settings: Settings): Promise<ReloadStatus> {
  const before: Status = (await call(scene, 'GET', '/v1/status')).body;
  configure(nth(scene.topo.nodes), settings);
  scene.agent.signal('SIGHUP');
  return until('the reload', async () => {
    const { reload }: Status = (await call(scene, 'GET', '/v1/status')).body;
    return reload && reload.at !== before.reload?.at ? reload : undefined;
  });
}

test('services come from the file', async (t) => {
  const settings: Settings = { maps: MAPS, services: [web()] };
  await using scene = await managedScene({ settings });

  await t.test('they are in the maps once the daemon is ready', async () => {
    const view = await get(scene, 'web');
    assert.equal(view.state, 'applied');
    assert.deepEqual(
      view.backends.map(({ address, local, weight }) => [address, local, weight]),
      [
        ['10.0.1.10', true, 1],
        ['10.0.2.10', false, 3],
      ],
    );
    const { services, backends, addresses, revNat } = await rowsOf(scene);
    assert.deepEqual(services.map(({ port, id, backends }) => [port, id, backends]).sort(), [
      [0, 0, 0],
      [80, view.id, 2],
    ]);
    assert.equal(backends.length, 2);
    assert.deepEqual(
      addresses.map(({ count }) => count),
      [1, 1],
    );
    assert.deepEqual(revNat[0]?.addr, parseAddress(VIP).bytes);
  });

  await t.test('their tables give each backend its share', async () => {
    const view = await get(scene, 'web');
    const { bpffs } = nth(scene.topo.nodes);
    using map = openPinnedMap(join(bpffs, 'ipv4', 'backend_tables'));
    assert.ok(map);
    const table = readBackendTable(map, 'ipv4', { serviceId: view.id, scope: 0 });
    const heavy = view.backends[1]?.id;
    const share = (table?.filter((id) => id === heavy).length ?? 0) / 16_381;
    assert.ok(Math.abs(share - 0.75) < 0.01, `${share}`);
  });

  await t.test('a restart keeps ids and tables, with the privileges of the unit', async () => {
    const { bpffs } = nth(scene.topo.nodes);
    using tables = openPinnedMap(join(bpffs, 'ipv4', 'backend_tables'));
    const before = [await rowsOf(scene), tables?.readAll()];
    await scene.agent.kill9();
    const binary = withoutSysAdmin(scene);
    const agent = launchAgent(scene.topo, { settings, binary });
    await agent.ready();
    assert.deepEqual([await rowsOf(scene), tables?.readAll()], before);
    assert.ok(agent.logs.every(({ msg }) => msg !== 'services applied'));
  });
});

test('a reload changes services, and rejects those that cannot be', async () => {
  const settings: Settings = { maps: MAPS, services: [web()] };
  await using scene = await managedScene({ settings });
  const bad = web({ name: 'bad', frontends: [{ address: '10.0.1.99', port: 80 }] });
  settings.services = [web({ type: 'NodePort', nodePort: 30_001 }), bad];
  const { status, keys } = await reload(scene, settings);
  assert.equal(status, 'applied');
  assert.deepEqual(keys, ['services']);
  const { services, warnings }: Status = (await call(scene, 'GET', '/v1/status')).body;
  assert.deepEqual(services, { total: 2, rejected: 1 });
  const reason = 'frontend 10.0.1.99 lies in a pod range of this node';
  assert.ok(warnings.includes(`service bad: ${reason}`), warnings.join());
  assert.deepEqual((await get(scene, 'bad')).problems, [reason]);
  const node = nth(scene.topo.nodes);
  const served = await get(scene, 'web');
  const nodePorts = served.frontends.filter(({ kind }) => kind === 'nodePort');
  assert.deepEqual(
    nodePorts.map(({ address, port, external }) => [address, port, external]),
    [[node.addresses.ipv4, 30_001, true]],
  );
  settings.services = [web({ frontend: [] }), web({ name: 'new', frontends: ELSEWHERE })];
  assert.equal((await reload(scene, settings)).status, 'applied');
  const { problems, ...kept } = await get(scene, 'web');
  assert.deepEqual({ ...kept, problems: [] }, served);
  assert.match(problems.join(), /: services\[0\]\.frontend: .*; the one before stays$/);
  assert.equal((await get(scene, 'new')).state, 'applied');
  const told: Status = (await call(scene, 'GET', '/v1/status')).body;
  assert.match(told.warnings.join(), /service web: .*: services\[0\]\.frontend: unknown key/);
  assert.deepEqual(told.services, { total: 2, rejected: 1 });
  settings.services = [];
  await reload(scene, settings);
  const left = await rowsOf(scene);
  for (const [name, rows] of Object.entries(left)) assert.deepEqual(rows, [], name);
});

test('services come and go over the socket', async (t) => {
  const settings: Settings = { maps: MAPS, services: [web({ name: 'fixed' })] };
  await using scene = await managedScene({ settings });
  const other = web({ frontends: [{ address: '10.96.0.2', port: 80 }] });
  const post = async (services: object[]): Promise<ApplyResult[]> => {
    const { status, body } = await call(scene, 'POST', '/v1/services', { services });
    assert.equal(status, 200, JSON.stringify(body));
    return body.services;
  };

  await t.test('what is applied is created, then unchanged, then updated', async () => {
    for (const [service, result] of [
      [other, 'created'],
      [other, 'unchanged'],
      [{ ...other, algorithm: 'random' }, 'updated'],
    ] as const) {
      assert.equal((await post([service]))[0]?.result, result);
    }
  });

  await t.test('what is rejected leaves what was there, and the rest of the request', async () => {
    const before = await get(scene, 'web');
    const results = await post([
      { ...other, backends: [{ address: 'fd00::1', port: 1 }] },
      { ...other, name: 'heavy', backends: [{ address: '10.0.2.1', port: 1, weight: 70_000 }] },
      web({ name: 'fixed' }),
      { ...other, name: 'twin' },
      web({ name: 'good', frontends: [{ address: '10.96.0.3', port: 80 }] }),
    ]);
    assert.deepEqual(
      results.map(({ result, problems }) => [result, problems[0]?.slice(0, 40)]),
      [
        ['rejected', '[fd00::1]:1 and 10.96.0.2:80 are of diff'],
        ['rejected', 'backends[0].weight: expected a whole num'],
        ['rejected', 'it comes from the configuration'],
        ['rejected', 'frontend 10.96.0.2:80/TCP belongs to ser'],
        ['created', undefined],
      ],
    );
    assert.deepEqual(await get(scene, 'web'), before);
  });

  await t.test('one alone that is rejected is an error', async () => {
    const twin = await call(scene, 'POST', '/v1/services', { ...other, name: 'twin' });
    assert.deepEqual([twin.status, twin.body.code], [409, 'E_CONFLICT']);
    const broken = await call(scene, 'POST', '/v1/services', { ...other, frontends: 7 });
    assert.deepEqual([broken.status, broken.body.code], [400, 'E_USAGE']);
  });

  await t.test('they are there after a crash, with their ids', async () => {
    const before = (await call(scene, 'GET', '/v1/services')).body;
    await scene.agent.kill9();
    await startAgent(scene.topo, settings);
    assert.deepEqual((await call(scene, 'GET', '/v1/services')).body, before);
  });

  await t.test('backends are listed, and told in metrics', async () => {
    const { body } = await call(scene, 'GET', '/v1/backends');
    const names = (body.backends as BackendView[]).map(({ service }) => service);
    assert.deepEqual([...new Set(names)].sort(), ['fixed', 'good', 'web']);
    const metrics = await scrape(scene.topo);
    assert.equal(metrics.sum('sekisho_service_backends', { service: 'web', state: 'active' }), 2);
  });

  await t.test('one is deleted, unless it comes from the file', async () => {
    const { status, body } = await call(scene, 'DELETE', '/v1/services/web');
    assert.deepEqual([status, body.name], [200, 'web']);
    assert.equal((await call(scene, 'GET', '/v1/services/web')).status, 404);
    assert.equal((await call(scene, 'DELETE', '/v1/services/web')).status, 404);
    assert.equal((await call(scene, 'DELETE', '/v1/services/fixed')).status, 409);
    const { services } = await rowsOf(scene);
    assert.ok(!services.some(({ addr }) => addr[3] === 2));
  });
});

test('an endpoint that comes is local, and serves what is only for local backends', async () => {
  const policy = { type: 'LoadBalancer', externalTrafficPolicy: 'Local' };
  const settings: Settings = { maps: MAPS, endpoints: [], services: [web(policy)] };
  await using scene = await managedScene({ settings });
  const external = async () => {
    const { services } = await rowsOf(scene);
    return services.find(({ port, scope }) => port === 80 && scope === 0)?.backends;
  };
  assert.equal(await external(), 0);
  const [endpoint] = nodeSettings(nth(scene.topo.nodes)).endpoints as object[];
  const { status } = await call(scene, 'POST', '/v1/endpoints', endpoint);
  assert.equal(status, 201);
  await until('the local backend', async () => (await external()) === 1 || undefined);
  assert.ok((await get(scene, 'web')).backends[0]?.local);
});

test('cleanup leaves nothing of services', async () => {
  await using scene = await managedScene({ settings: { maps: MAPS, services: [web()] } });
  const { bpffs, runDir } = nth(scene.topo.nodes);
  await call(scene, 'POST', '/v1/services', {
    services: [web({ name: 'more', frontends: [{ address: '10.96.0.9', port: 80 }] })],
  });
  assert.ok(existsSync(join(runDir, 'services.json')));
  await scene.agent.stop();
  assert.equal((await sekisho(scene.topo, 'cleanup')).code, 0);
  assert.ok(!existsSync(join(runDir, 'services.json')));
  assert.ok(!existsSync(bpffs));
});
