import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listDevices } from '../../agent/tables/devices.ts';
import { sekishoJson, startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { sysctl } from '../lib/netns.ts';
import { openWire, type Wire } from '../lib/raw-socket.ts';
import { bareScene, managedScene, nth, type Scene } from '../lib/scene.ts';
import { type Addresses, FAMILIES } from '../lib/topology.ts';
import { makeUplink } from '../lib/uplink.ts';
import { until } from '../lib/wait.ts';

const PORT = 7000;
const COUNT = 10;

interface Report {
  warnings: string[];
  agent: { devices: string[]; endpoints: { ready: number } };
  hooks: { interface: string; hook: string; attached: boolean }[];
}

test('two uplinks with an address each', async (t) => {
  await using scene = await bareScene();
  const { topo } = scene;
  const node = nth(topo.nodes);
  const uplink = await makeUplink(topo);
  await uplink.plug();
  const podCIDRs = Object.values(node.podCIDRs);
  const settings = { node: { name: 'a', devices: ['eth0', uplink.device], podCIDRs } };
  let agent = await startAgent(topo, settings);
  await using wire = await openWire(topo.world, 'eth0', { sources: podCIDRs });
  await using second = await openWire(topo.world, uplink.device, { sources: podCIDRs });
  const ways = [
    { name: 'first', to: nth(topo.worldAddresses), as: node.addresses },
    { name: 'second', to: uplink.destination, as: uplink.addresses },
  ];
  for (const { to } of ways) {
    for (const family of FAMILIES) await scene.world.listen({ host: to[family], port: PORT });
  }

  await t.test('a flow leaves as the address of the one that its route takes', async () => {
    for (const { name, to, as } of ways) await openGroup(scene, name, to, as);
  });

  await t.test('answers find back through either, also past a crash of the daemon', async () => {
    await agent.kill9();
    for (const { name } of ways) await assertAlive(scene, name);
    agent = await startAgent(topo, settings);
    for (const { name } of ways) await assertAlive(scene, name);
  });

  await t.test('one that goes and comes back with another index is one again', async () => {
    await uplink.unplug();
    await until('it to be missed', async () => (await report(scene)).agent.devices.length === 1);
    assert.deepEqual((await report(scene)).warnings, ['device eth1 is not there']);
    await assertAlive(scene, 'first');
    await uplink.plug();
    await until('it to be found', async () => (await report(scene)).agent.devices.length === 2);
    await openGroup(scene, 'third', uplink.destination, uplink.addresses);
    assert.deepEqual((await report(scene)).warnings, []);
  });

  await t.test('no private source has left through either', async () => {
    await assertSilent(wire);
    await assertSilent(second);
  });
});

test('without configured devices, one that gets the default route is taken into use', async (t) => {
  await using scene = await bareScene();
  const { topo } = scene;
  const node = nth(topo.nodes);
  const podCIDRs = Object.values(node.podCIDRs);
  await startAgent(topo, { node: { name: 'a', podCIDRs } });
  const uplink = await makeUplink(topo);
  const to = nth(topo.worldAddresses);
  for (const family of FAMILIES) await scene.world.listen({ host: to[family], port: PORT });
  await openGroup(scene, 'before', to, node.addresses);
  await uplink.plug();
  await using wire = await openWire(topo.world, uplink.device, { sources: podCIDRs });

  await t.test('flows leave as its address', async () => {
    assert.deepEqual((await report(scene)).agent.devices, ['eth0']);
    await node.ns.ip(
      ...FAMILIES.map((f) => `route replace default via ${uplink.gateway[f]} dev ${uplink.device}`),
    );
    await until('the device', async () => (await report(scene)).agent.devices.length === 2);
    await openGroup(scene, 'after', to, uplink.addresses);
  });

  await t.test('and the one before stays in use', async () => {
    const { hooks } = await report(scene);
    const attached = hooks.filter((hook) => hook.interface === 'eth0' && hook.attached);
    assert.equal(attached.length, 4);
  });
  await assertSilent(wire);
});

test('an interface that is renamed stays what it was', async (t) => {
  await using scene = await managedScene();
  const { topo } = scene;
  const { ns, addresses, podCIDRs } = nth(topo.nodes);
  const to = nth(topo.worldAddresses);
  await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(podCIDRs) });
  for (const family of FAMILIES) await scene.world.listen({ host: to[family], port: PORT });
  await openGroup(scene, 'before', to, addresses);
  const rename = (from: string, name: string) =>
    ns.tryExec('ip', 'link', 'set', from, 'name', name);
  if ((await rename('eth0', 'wan0')).code !== 0) return t.skip('only while it is down, here');

  await t.test('a device', async () => {
    const { agent, hooks } = await until('the warning', async () => {
      const now = await report(scene);
      return now.warnings.includes('device eth0 is called wan0 now') && now;
    });
    assert.deepEqual(agent.devices, ['wan0']);
    assert.equal(
      hooks.filter(({ interface: name, attached }) => name === 'wan0' && attached).length,
      4,
    );
    await assertAlive(scene, 'before');
    await openGroup(scene, 'device', to, addresses);
  });

  await t.test('a device whose name another one takes', async () => {
    await ns.ip('link add eth0 type veth peer name other', 'link set eth0 up');
    await until('both', async () => (await report(scene)).agent.devices.length === 2);
    await assertAlive(scene, 'device');
    await openGroup(scene, 'taken', to, addresses);
    await ns.ip('link del eth0');
  });

  await t.test('an endpoint', async () => {
    await rename('lxc-1', 'pod-x');
    const warning = 'endpoint node-pod1: interface lxc-1 is called pod-x now';
    await until('the warning', async () => (await report(scene)).warnings.includes(warning));
    assert.equal((await report(scene)).agent.endpoints.ready, 1);
    await assertAlive(scene, 'before');
    await openGroup(scene, 'endpoint', to, addresses);
  });

  await t.test('and nothing is said once the names are back', async () => {
    await rename('wan0', 'eth0');
    await rename('pod-x', 'lxc-1');
    await until('silence', async () => (await report(scene)).warnings.length === 0);
    await assertAlive(scene, 'endpoint');
    await assertSilent(wire);
  });
});

test('when its address changes, a device lets nothing out as the old one', async (t) => {
  await using scene = await managedScene();
  const { topo } = scene;
  const { ns, bpffs, addresses: before, podCIDRs } = nth(topo.nodes);
  const after: Addresses = { ipv4: '192.168.1.77', ipv6: 'fd00:192:168:1::77' };
  const to = nth(topo.worldAddresses);
  const pod = nth(scene.pods);
  await sysctl(ns, { 'net.ipv4.conf.all.promote_secondaries': 1 });
  for (const family of FAMILIES) {
    const host = to[family];
    await scene.world.listen({ host, port: PORT });
    await scene.world.udpListen({ host, port: PORT });
    await pod.udpOpen({ tag: `udp-${family}`, host, port: PORT });
    await pod.udpExchange({ tag: `udp-${family}` });
  }
  await openGroup(scene, 'before', to, before);
  await ns.ip(
    `addr add ${after.ipv4}/24 dev eth0`,
    `addr add ${after.ipv6}/64 dev eth0 nodad`,
    `addr del ${before.ipv4}/24 dev eth0`,
    `addr del ${before.ipv6}/64 dev eth0`,
  );
  const egress = (family: 'ipv4' | 'ipv6') => nth(listDevices(bpffs, family)).addr;
  await until(
    'the new addresses',
    () => egress('ipv4').at(-1) === 77 && egress('ipv6').at(-1) === 0x77,
  );
  const old = [`${before.ipv4}/32`, `${before.ipv6}/128`, ...Object.values(podCIDRs)];
  await using wire = await openWire(topo.world, 'eth0', { sources: old });

  for (const family of FAMILIES) {
    await t.test(`a flow that is open goes on as the new one (${family})`, async () => {
      await pod.udpExchange({ tag: `udp-${family}`, text: 'again' });
      const { remoteAddress } = await scene.world.udpEndpoints({ tag: `udp-${family}` });
      assert.equal(remoteAddress, after[family]);
    });
  }

  await t.test('so do new connections', () => openGroup(scene, 'after', to, after));

  await t.test('and what an old connection still says does not leave as the old one', async () => {
    for (const prefix of FAMILIES) await pod.sayMany({ prefix: `before-${prefix}`, count: COUNT });
    await assertAlive(scene, 'after');
    await assertSilent(wire);
  });
});

/** Opens connections in both families; the world must see them come from the right address. */
async function openGroup(scene: Scene, name: string, to: Addresses, as: Addresses): Promise<void> {
  for (const family of FAMILIES) {
    const prefix = `${name}-${family}`;
    const target = { host: to[family], port: PORT };
    const census = await nth(scene.pods).connectMany({ prefix, count: COUNT, ...target });
    assert.deepEqual(census, { alive: COUNT, dead: {} });
    const { remoteAddress } = await scene.world.endpoints({ tag: `${prefix}0` });
    assert.equal(remoteAddress, as[family]);
  }
}

async function assertAlive(scene: Scene, name: string): Promise<void> {
  for (const family of FAMILIES) {
    const census = await nth(scene.pods).exchangeMany({
      prefix: `${name}-${family}`,
      count: COUNT,
    });
    assert.deepEqual(census, { alive: COUNT, dead: {} }, family);
  }
}

async function assertSilent(wire: Wire): Promise<void> {
  const heard = (await wire.take()).map(({ frame }) => dissect(frame).ip);
  assert.deepEqual(heard, []);
}

function report({ topo }: Scene): Promise<Report> {
  return sekishoJson<Report>(topo, 'status');
}
