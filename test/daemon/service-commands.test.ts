import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import type { ListedBackend } from '../../agent/cli/backend-view.ts';
import type { ListedTable } from '../../agent/cli/maglev-view.ts';
import type { ServiceDetail } from '../../agent/cli/service-detail.ts';
import type { ListedService } from '../../agent/cli/service-view.ts';
import type { StatusReport } from '../../agent/cli/status-report.ts';
import { sekisho, sekishoJson } from '../lib/daemon.ts';
import { managedScene, nth } from '../lib/scene.ts';

const CONFIGURED = {
  name: 'db',
  frontends: [{ address: '10.96.0.2', port: 5432 }],
  backends: [{ address: '10.0.2.20', port: 5432 }],
};
const WEB = {
  name: 'web',
  type: 'LoadBalancer',
  frontends: [
    { address: '172.190.0.17', port: 80 },
    { address: '172.190.0.17', port: 80, protocol: 'UDP' },
  ],
  nodePort: 30_001,
  backends: [
    { address: '10.0.1.10', port: 8000 },
    { address: '10.0.2.10', port: 8000, weight: 3 },
    { address: '10.0.2.11', port: 8000, state: 'terminating' },
  ],
  externalTrafficPolicy: 'Local',
  sourceRanges: ['203.0.113.0/24'],
  forwarding: 'dsr',
};

test('services by command, from file to table', async (t) => {
  const settings = { services: [CONFIGURED] };
  await using scene = await managedScene({ settings });
  const { topo, agent } = scene;
  const path = join(topo.directory, 'services.yaml');
  const apply = (services: unknown) => {
    writeFileSync(path, stringify(services));
    return sekisho(topo, 'service', 'apply', '-f', path);
  };
  const list = () => sekishoJson<ListedService[]>(topo, 'service', 'list');
  const node = nth(topo.nodes).addresses.ipv4;

  await t.test('one that is applied is created, then unchanged, then updated', async () => {
    assert.equal((await apply(WEB)).stdout, 'service web created\n');
    assert.equal((await apply([WEB])).stdout, 'service web unchanged\n');
    const changed = { ...WEB, sessionAffinity: { timeout: '1h' } };
    assert.equal((await apply({ services: [changed] })).stdout, 'service web updated\n');
    const [affinity] = (await list()).filter(({ name }) => name === 'web');
    assert.equal(affinity?.affinityTimeout, 3600);
    assert.equal((await apply(WEB)).stdout, 'service web updated\n');
  });

  await t.test('it is listed for each protocol, with the node port on the node', async () => {
    const own = (await list()).filter(({ name }) => name === 'web');
    assert.deepEqual(
      own.map(({ protocol, state, source, forwarding }) => [protocol, state, source, forwarding]),
      [
        ['TCP', 'ready', 'api', 'dsr'],
        ['UDP', 'ready', 'api', 'dsr'],
      ],
    );
    for (const { frontends, eligible, backends } of own) {
      const places = frontends.map(({ address, port }) => `${address}:${port}`);
      assert.deepEqual(places.sort(), ['172.190.0.17:80', `${node}:30001`]);
      assert.deepEqual(eligible, { external: 1, internal: 2 });
      assert.deepEqual([backends.active, backends.terminating], [2, 1]);
    }
  });

  await t.test('shares follow weights and policies', async () => {
    const detail = await sekishoJson<ServiceDetail>(topo, 'service', 'get', 'web');
    assert.deepEqual(detail.sourceRanges, ['203.0.113.0/24']);
    assert.equal(detail.externalTrafficPolicy, 'Local');
    const [here, there, leaving] = detail.backends.filter(({ protocol }) => protocol === 'TCP');
    assert.deepEqual([here?.weight, there?.weight, leaving?.state], [1, 3, 'terminating']);
    assert.deepEqual(
      [here, there, leaving].map((backend) => backend?.share.external),
      [100, 0, 0],
    );
    assert.ok(Math.abs((there?.share.internal ?? 0) - 75) < 1, `${there?.share.internal}`);
    assert.equal(leaving?.share.internal, 0);
    const tables = await sekishoJson<ListedTable[]>(topo, 'maglev', 'show', 'web');
    assert.deepEqual(tables.map(({ protocol, scope }) => `${protocol} ${scope}`).sort(), [
      'TCP external',
      'TCP internal',
      'UDP external',
      'UDP internal',
    ]);
    assert.deepEqual(new Set(tables[0]?.table), new Set([here?.id]));
  });

  await t.test('what is rejected says why, and the rest is applied', async () => {
    const inside = { ...CONFIGURED, name: 'inside' };
    const taken = { ...WEB, name: 'taken' };
    const good = { ...WEB, name: 'good', frontends: [], nodePort: 30_002, type: 'NodePort' };
    inside.frontends = [{ address: '10.0.1.77', port: 80 }];
    const heavy = { ...WEB, name: 'heavy', backends: [{ ...WEB.backends[0], weight: 65_536 }] };
    const { code, stdout, stderr } = await apply([inside, taken, good, CONFIGURED, heavy]);
    assert.deepEqual([code, stdout], [1, 'service good created\n']);
    const lines = stderr.trimEnd().split('\n');
    assert.match(lines[0] ?? '', /services\.yaml:1:9: service inside: .*pod range/);
    assert.match(lines[1] ?? '', /services\.yaml:\d+:9: service taken: .*service web/);
    assert.match(lines[2] ?? '', /service db: .*configuration/);
    assert.match(
      lines[3] ?? '',
      /yaml:\d+:15: \[4\]\.backends\[0\]\.weight: expected .* 65535, got/,
    );
    assert.equal(lines.length, 4);
  });

  await t.test('the status counts them', async () => {
    const { healthy, services } = await sekishoJson<StatusReport>(topo, 'status');
    assert.deepEqual([healthy, services?.total, services?.rejected], [true, 3, 0]);
  });

  await t.test('without the daemon they are still there, with their names', async () => {
    const before = (await list()).filter(({ id }) => id !== null);
    await agent.stop();
    const services = await list();
    assert.deepEqual(
      services.map(({ id, name, source }) => [id, name, source]),
      before.map(({ id, name, source }) => [id, name, source]),
    );
    assert.equal(services.length, 4);
    const backends = await sekishoJson<ListedBackend[]>(topo, 'backend', 'list');
    assert.ok(backends.some(({ address, weight }) => address === '10.0.2.20' && weight === null));
    const gone = await sekisho(topo, 'service', 'delete', 'web');
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /no agent listens/);
  });
});

test('services are deleted by name, those of the configuration are not', async () => {
  await using scene = await managedScene({ settings: { services: [CONFIGURED] } });
  const { topo } = scene;
  const path = join(topo.directory, 'web.yaml');
  writeFileSync(path, stringify(WEB));
  assert.equal((await sekisho(topo, 'service', 'apply', '-f', path)).code, 0);
  const deleted = await sekisho(topo, 'service', 'delete', 'web');
  assert.deepEqual([deleted.code, deleted.stdout], [0, 'service web deleted\n']);
  const [left, ...others] = await sekishoJson<ListedService[]>(topo, 'service', 'list');
  assert.deepEqual([left?.name, others], ['db', []]);
  const kept = await sekisho(topo, 'service', 'delete', 'db');
  assert.equal(kept.code, 1);
  assert.match(kept.stderr, /^sekisho: service db comes from the configuration \(.*\)\n$/);
  assert.equal((await sekisho(topo, 'service', 'delete', 'web')).code, 1);
});

test('services of the configuration that are rejected are told, and the node is healthy', async () => {
  const inside = { ...CONFIGURED, name: 'inside', frontends: [{ address: '10.0.1.77', port: 80 }] };
  const broken = { name: 'broken', type: 'Balancer' };
  const services = [CONFIGURED, inside, broken];
  await using scene = await managedScene({ settings: { services } });
  const { code, stdout } = await sekisho(scene.topo, 'status', '-o', 'json');
  const { problems, warnings, services: counts }: StatusReport = JSON.parse(stdout);
  assert.deepEqual([code, problems, counts?.total, counts?.rejected], [0, [], 3, 2]);
  assert.match(warnings.join('\n'), /^service inside: .*10\.0\.1\.77 lies in a pod range/m);
  assert.match(warnings.join('\n'), /^service broken: .*services\[2\]\.type: expected ClusterIP/m);
  const listed = await sekisho(scene.topo, 'service', 'list');
  const line = (name: string) =>
    listed.stdout.split('\n').find((text) => text.includes(name)) ?? '';
  assert.match(
    line('inside'),
    /^- +inside +ClusterIP +10\.0\.1\.77:80\/TCP +- .* rejected: .*pod range/,
  );
  assert.match(
    line('broken'),
    /^- +broken +- +- +- +0\/0 +- +rejected: .*type: expected ClusterIP/,
  );
  const asked = await sekisho(scene.topo, 'service', 'get', 'broken');
  assert.equal(asked.code, 1);
  assert.match(asked.stderr, /^sekisho: service broken is rejected: .*expected ClusterIP/);
});
