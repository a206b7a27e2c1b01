import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import type { Namespace } from '../lib/netns.ts';
import { buildPacket } from '../lib/packet.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

const VLAN = 'eth0.100';
const NODE = { ipv4: '192.168.100.5', ipv6: 'fd00:192:168:100::5' };
const WORLD = { ipv4: '192.168.100.1', ipv6: 'fd00:192:168:100::1' };

const STRANGERS = { ipv4: '10.0.77.7', ipv6: 'fd00:1::77' };
const [BARE, TAGGED] = [7000, 7001];

const skip = hasVlans() ? false : 'this kernel has no 802.1Q devices';

test('a VLAN and the device below it are two north-south devices', { skip }, async (t) => {
  await using scene = await bareScene();
  const { topo, world } = scene;
  await addVlan(topo.node, NODE);
  await addVlan(topo.world, WORLD);
  const node = nth(topo.nodes);
  const devices = ['eth0', VLAN];
  const podCIDRs = Object.values(node.podCIDRs);
  await startAgent(topo, { node: { name: node.name, devices, podCIDRs } });
  await using wire = await openWire(topo.world, 'eth0', { sources: podCIDRs });
  const pod = nth(scene.pods);
  for (const family of FAMILIES) {
    for (const [host, egress] of [
      [WORLD[family], NODE[family]],
      [nth(topo.worldAddresses)[family], node.addresses[family]],
    ] as const) {
      await t.test(`a pod leaves for ${host} as ${egress}`, async () => {
        const tag = `to-${host}`;
        await world.listen({ host, port: 7000 });
        await pod.connect({ tag, host, port: 7000 });
        assert.equal((await world.endpoints({ tag })).remoteAddress, egress);
        await pod.exchange({ tag, text: 'x'.repeat(100_000) });
      });
    }
  }
  assert.deepEqual(await wire.take(), []);
});

test('a pod does not reach into VLANs of the uplink', async () => {
  await using scene = await bareScene();
  const { topo } = scene;
  await startAgent(topo);
  const pod = nth(topo.pods);
  const node = nth(topo.nodes);
  const sources = [...Object.values(pod.addresses), ...Object.values(node.addresses)];
  await using wire = await openWire(pod.ns, 'eth0', { sources: [] });
  const prefixes = sources.map((address) => `${address}/${address.includes(':') ? 128 : 32}`);
  await using heard = await openWire(topo.world, 'eth0', { sources: prefixes });
  for (const family of FAMILIES) {
    const datagramTo = (dport: number) =>
      buildPacket({
        eth: { src: pod.mac, dst: pod.routerMac },
        ip: { src: pod.addresses[family], dst: nth(topo.worldAddresses)[family] },
        udp: { sport: 40_000, dport },
      });
    await wire.send(tagged(100, datagramTo(TAGGED)), datagramTo(BARE));
    const ports: unknown[] = [];
    await until('the datagram without a tag', async () => {
      ports.push(...(await heard.take()).map(({ frame }) => dissect(frame).udp?.dport));
      return ports.includes(BARE);
    });
    assert.ok(!ports.includes(TAGGED));
  }
});

test('a priority tag changes nothing: no stranger leaves, answers find the pod', async () => {
  await using scene = await bareScene();
  const { topo } = scene;
  await startAgent(topo);
  const [pod, node] = [nth(topo.pods), nth(topo.nodes)];
  await using wire = await openWire(pod.ns, 'eth0', { sources: ['0.0.0.0/0', '::/0'] });
  await using heard = await openWire(topo.world, 'eth0', { sources: ['0.0.0.0/0', '::/0'] });
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    const [own, address] = [node.addresses[family], pod.addresses[family]];
    const eth = { src: pod.mac, dst: pod.routerMac };
    const udp = { sport: 40_000, dport: BARE };
    for (const src of [STRANGERS[family], address]) {
      await wire.send(tagged(0, buildPacket({ eth, ip: { src, dst: host }, udp })));
    }
    const sources = new Set<unknown>();
    await until('the datagram, translated', async () => {
      const frames = (await heard.take()).map(({ frame }) => dissect(frame));
      for (const { ip, udp } of frames) if (udp?.dport === BARE) sources.add(ip?.src);
      return sources.has(own);
    });
    assert.deepEqual(sources, new Set([own]));

    const answer = buildPacket({
      eth: { src: topo.worldMac, dst: node.mac },
      ip: { src: host, dst: own },
      udp: { sport: BARE, dport: 40_000 },
    });
    await heard.send(tagged(0, answer));
    await until('the answer, in the pod', async () => {
      const frames = (await wire.take()).map(({ frame }) => dissect(frame));
      return frames.some(({ ip, udp }) => udp?.sport === BARE && ip?.dst === address);
    });
  }
});

/** With an IEEE 802.1Q header. */
function tagged(vlan: number, frame: Uint8Array): Uint8Array {
  return Uint8Array.from([...frame.subarray(0, 12), 0x81, 0x00, 0, vlan, ...frame.subarray(12)]);
}

async function addVlan(ns: Namespace, address: { ipv4: string; ipv6: string }): Promise<void> {
  await ns.ip(
    `link add link eth0 name ${VLAN} type vlan id 100`,
    `addr add ${address.ipv4}/24 dev ${VLAN}`,
    `addr add ${address.ipv6}/64 dev ${VLAN} nodad`,
    `link set ${VLAN} up`,
  );
}

function hasVlans(): boolean {
  const script = 'ip link add a type dummy && ip link add link a name b type vlan id 1';
  return spawnSync('unshare', ['--net', 'sh', '-c', script]).status === 0;
}
