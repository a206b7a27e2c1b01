import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointView } from '../../agent/daemon/api.ts';
import type { Status } from '../../agent/daemon/status.ts';
import { configure, nodeSettings, sekisho, sekishoOn, startAgent } from '../lib/daemon.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { until } from '../lib/wait.ts';
import { call } from './support.ts';

const SMALL = { maps: { ctTcp: 4096, ctAny: 2048, nat: 4096 } };
const TUNNEL = 'tun0';
const REASON = 'is not Ethernet (its link type is none)';

test('an interface that is not Ethernet', async (t) => {
  await using scene = await bareScene();
  const { topo } = scene;
  const node = nth(topo.nodes);
  const { code, stderr } = await node.ns.tryExec('ip', 'tuntap', 'add', TUNNEL, 'mode', 'tun');
  if (code !== 0) return t.skip(`no tunnel can be made here: ${stderr}`);
  await node.ns.ip(`link set ${TUNNEL} up`);
  const start = (devices: string[]) =>
    sekishoOn(node, configure(node, { ...SMALL, node: { devices } }), 'agent');
  const defaultRoute = (verb: string) => node.ns.ip(`route ${verb} default dev ${TUNNEL} metric 5`);

  await t.test('is refused as a device', async () => {
    const refused = await start(['eth0', TUNNEL]);
    assert.equal(refused.code, 1);
    assert.equal(
      refused.stderr,
      `sekisho: node.devices: ${TUNNEL} ${REASON} (name Ethernet interfaces)\n`,
    );
  });

  await t.test('is refused where a default route leads there', async () => {
    await defaultRoute('add');
    const refused = await start([]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^sekisho: node\.devices: tun0 .* default route .*\)\n$/);
    const doctor = await sekisho(topo, 'doctor');
    assert.match(doctor.stdout, /^MISSING +north-south devices +node\.devices: tun0 is not /m);
    assert.equal(doctor.code, 1);
    await defaultRoute('del');
    assert.match((await sekisho(topo, 'doctor')).stdout, /^ok +north-south devices +eth0$/m);
  });

  const [pod] = nodeSettings(node).endpoints as { name: string }[];
  const tunneled = { ...pod, interface: TUNNEL };
  await startAgent(topo, { ...SMALL, node: {}, endpoints: [tunneled] });
  const status = async () => (await call(scene, 'GET', '/v1/status')).body as Status;

  await t.test('is left out, with a warning, when it gets a default route later', async () => {
    await defaultRoute('add');
    const warning = `device ${TUNNEL} of a default route ${REASON}`;
    await until('the warning', async () => (await status()).warnings.includes(warning));
    const { devices, hooks, healthy } = await status();
    assert.deepEqual(devices, ['eth0']);
    assert.deepEqual([...new Set(hooks.map((hook) => hook.interface))], ['eth0']);
    assert.equal(healthy, true);
  });

  await t.test('is no endpoint of the configuration', async () => {
    const { body } = await call(scene, 'GET', '/v1/endpoints');
    const states = (body.endpoints as EndpointView[]).map(({ name, state }) => [name, state]);
    assert.deepEqual(states, [[pod?.name, 'unfit']]);
    const warning = `endpoint ${pod?.name}: interface ${TUNNEL} ${REASON}`;
    assert.ok((await status()).warnings.includes(warning));
  });

  await t.test('is refused as an endpoint', async () => {
    const request = { name: 'other', interface: TUNNEL, addresses: ['10.0.1.99'] };
    const answer = await call(scene, 'POST', '/v1/endpoints', request);
    assert.equal(answer.status, 409);
    assert.equal(answer.body.message, `interface ${TUNNEL} ${REASON}`);
  });
});
