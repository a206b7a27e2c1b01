import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { EndpointView } from '../../agent/daemon/api.ts';
import { startAgent } from '../lib/daemon.ts';
import { managedScene, nth } from '../lib/scene.ts';
import { KIND, openTable } from '../lib/tables.ts';
import { FAMILIES, type Pod } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { call, entriesOf, insertFlow } from './support.ts';

const PORT = 7000;
const NO_ENDPOINTS = { settings: { endpoints: [] } };

test('a pod becomes an endpoint, keeps its name over a crash, and leaves', async (t) => {
  await using scene = await managedScene(NO_ENDPOINTS);
  const pod = nth(scene.topo.pods);
  const host = nth(scene.topo.worldAddresses).ipv4;
  await scene.world.listen({ host, port: PORT });
  const client = nth(scene.pods);

  await t.test('nothing of an unknown pod leaves the node', async () => {
    const attempt = client.connect({ tag: 'early', host, port: PORT, timeout: 300 });
    await assert.rejects(attempt, /timeout/);
  });

  await t.test('once added, its connections are translated', async () => {
    const { status, body } = await call(scene, 'POST', '/v1/endpoints', requestFor(pod));
    assert.equal(status, 201);
    assert.equal(body.state, 'ready');
    await client.connect({ tag: 'one', host, port: PORT });
  });

  await t.test('adding it again changes nothing', async () => {
    const { status } = await call(scene, 'POST', '/v1/endpoints', requestFor(pod));
    assert.equal(status, 200);
    await client.exchange({ tag: 'one', text: 'again' });
  });

  await t.test('a daemon that was killed knows it by name', async () => {
    await scene.agent.kill9();
    await startAgent(scene.topo, NO_ENDPOINTS.settings);
    const { body } = await call(scene, 'GET', '/v1/endpoints');
    assert.deepEqual(
      body.endpoints.map(({ name, state }: EndpointView) => [name, state]),
      [[pod.name, 'ready']],
    );
    await client.exchange({ tag: 'one', text: 'restarted' });
  });

  await t.test('once deleted, its hooks, rows and flows are gone', async () => {
    const { status } = await call(scene, 'DELETE', `/v1/endpoints/${pod.name}`);
    assert.equal(status, 200);
    const links = readdirSync(join(nth(scene.topo.nodes).bpffs, 'links'));
    assert.deepEqual(
      links.filter((name) => name.includes('endpoint')),
      [],
    );
    assert.equal(await entriesOf(scene, pod), 0);
    await assert.rejects(
      client.connect({ tag: 'late', host, port: PORT, timeout: 300 }),
      /timeout/,
    );
  });
});

test('what cannot be an endpoint is refused with the reason, and nothing is kept', async () => {
  await using scene = await managedScene(NO_ENDPOINTS);
  const pod = nth(scene.topo.pods);
  const wanted = requestFor(pod);
  const cases: [Partial<typeof wanted>, number, string][] = [
    [{ interface: 'lxc-nowhere' }, 400, 'E_NO_INTERFACE'],
    [{ interface: 'eth0' }, 409, 'E_CONFLICT'],
    [{ addresses: [nth(scene.topo.nodes).addresses.ipv4] }, 409, 'E_CONFLICT'],
    [{ addresses: ['10.0.1.300'] }, 400, 'E_BAD_ADDRESS'],
  ];
  for (const [change, status, code] of cases) {
    const answer = await call(scene, 'POST', '/v1/endpoints', { ...wanted, ...change });
    assert.equal(answer.status, status);
    assert.equal(answer.body.code, code);
  }
  const { body } = await call(scene, 'GET', '/v1/endpoints');
  assert.deepEqual(body.endpoints, []);
});

test('a new endpoint does not inherit the flows of an address', async () => {
  await using scene = await managedScene(NO_ENDPOINTS);
  const [node, pod] = [nth(scene.topo.nodes), nth(scene.topo.pods)];
  const left = {
    src: pod.addresses.ipv4,
    dst: '203.0.113.99',
    sport: 4000,
    dport: 80,
    protocol: 6,
    kind: KIND.OUT,
  };
  const other = { ...left, src: '10.0.1.200' };
  for (const key of [left, other]) insertFlow(node.bpffs, key);
  await call(scene, 'POST', '/v1/endpoints', requestFor(pod));
  using table = openTable(node, 'ipv4', 'ct_tcp');
  assert.equal(table.has(left), false);
  assert.equal(table.has(other), true);
});

test('an endpoint follows its interface', async (t) => {
  await using scene = await managedScene();
  const [node, pod] = [nth(scene.topo.nodes), nth(scene.topo.pods)];
  const state = async () => {
    const { body } = await call(scene, 'GET', '/v1/endpoints');
    return nth(body.endpoints as EndpointView[]);
  };
  const before = await state();

  await t.test('that goes', async () => {
    await node.ns.ip(`link del ${pod.interface}`);
    await until('the endpoint to lose it', async () => (await state()).state === 'no_interface');
    const prefix = `${before.ifindex}_`;
    await until('its links to go', () => {
      const links = readdirSync(join(node.bpffs, 'links'));
      return !links.some((name) => name.startsWith(prefix));
    });
  });

  await t.test('and comes again', async () => {
    await node.ns.ip(`link add ${pod.interface} type veth peer name eth0 netns ${pod.ns.name}`);
    const after = await until('the endpoint to have it', async () => {
      const now = await state();
      return now.state === 'ready' && now;
    });
    assert.notEqual(after.ifindex, before.ifindex);
    assert.equal(after.id, before.id);
    const prefix = `${after.ifindex}_`;
    await until('both hooks of both families', () => {
      const links = readdirSync(join(node.bpffs, 'links'));
      return links.filter((name) => name.startsWith(prefix)).length === 4;
    });
  });
});

test('an interface that is renamed while the daemon is away stays its endpoint’s', async (t) => {
  await using scene = await managedScene();
  const [node, pod] = [nth(scene.topo.nodes), nth(scene.topo.pods)];
  const host = nth(scene.topo.worldAddresses).ipv4;
  await scene.world.listen({ host, port: PORT });
  await nth(scene.pods).connect({ tag: 'one', host, port: PORT });
  const [before, links] = [await entriesOf(scene, pod), readdirSync(join(node.bpffs, 'links'))];
  await scene.agent.kill9();
  const renamed = await node.ns.tryExec('ip', 'link', 'set', pod.interface, 'name', 'pod-x');
  if (renamed.code !== 0) return t.skip('only while it is down, here');
  const agent = await startAgent(scene.topo);
  const { body } = await call(scene, 'GET', '/v1/status');
  assert.deepEqual(body.warnings, [
    `endpoint ${pod.name}: interface ${pod.interface} is called pod-x now`,
  ]);
  assert.equal(await entriesOf(scene, pod), before);
  assert.deepEqual(readdirSync(join(node.bpffs, 'links')), links);
  assert.ok(!agent.logs.some(({ msg }) => /removed|deleted|scrubbed/.test(msg)));
  await nth(scene.pods).exchange({ tag: 'one', text: 'renamed' });
});

test('without the stored list, the daemon starts with what the configuration says', async () => {
  await using scene = await managedScene();
  const { runDir } = nth(scene.topo.nodes);
  await scene.agent.stop();
  rmSync(join(runDir, 'endpoints.json'));
  await startAgent(scene.topo);
  const { body } = await call(scene, 'GET', '/v1/endpoints');
  assert.equal(body.endpoints.length, 1);
});

function requestFor(pod: Pod) {
  return {
    name: pod.name,
    interface: pod.interface,
    addresses: FAMILIES.map((family) => pod.addresses[family]),
  };
}
