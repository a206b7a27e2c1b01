import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import type { Packet } from '../lib/packet.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Family, type Pod } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

const LAST = 7999;
const UNASSIGNED = { ipv4: '10.0.1.200', ipv6: 'fd00:1::c8' } as const;
const DESTINATION_OPTIONS = 60;

/** Without the ranges nothing stands behind masquerade: what passes it by mistake leaves bare. */
const CASES = ['fast', 'stack'].flatMap((routing) => [
  { routing, ranges: true, told: 'with node.podCIDRs' },
  { routing, ranges: false, told: 'without node.podCIDRs' },
]);

for (const { routing, ranges, told } of CASES) {
  const name = `whatever a pod sends, its address never reaches the world: ${routing} routing, ${told}`;
  test(name, async () => {
    await using scene = await bareScene({ pods: 2 });
    const { topo } = scene;
    const node = nth(topo.nodes);
    await node.ns.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    const podCIDRs = ranges ? Object.values(node.podCIDRs) : [];
    await startAgent(topo, {
      datapath: { routing },
      node: { name: node.name, devices: ['eth0'], podCIDRs },
    });
    const [pod, other] = [nth(topo.pods), nth(topo.pods, 1)];
    const own = Object.values(node.addresses).map((a) => `${a}/${a.includes(':') ? 128 : 32}`);
    await using pods = await openWire(topo.world, 'eth0', {
      sources: Object.values(node.podCIDRs),
    });
    await using nodes = await openWire(topo.world, 'eth0', { sources: own });
    await using wire = await openWire(pod.ns, 'eth0', { sources: [] });

    for (const family of FAMILIES) {
      const host = nth(topo.worldAddresses)[family];
      const eth = { src: pod.mac, dst: pod.routerMac };
      for (const src of [pod.addresses[family], other.addresses[family], UNASSIGNED[family]]) {
        await wire.send(...shapes(family, src, host, pod).map((packet) => ({ eth, ...packet })));
      }
      const src = pod.addresses[family];
      await wire.send({ eth, ip: { src, dst: host }, udp: { sport: LAST, dport: LAST } });
      await until('the last datagram, translated', async () => {
        const heard = (await nodes.take()).map(({ frame }) => dissect(frame));
        return heard.some(({ udp }) => udp?.dport === LAST);
      });
    }

    assert.deepEqual(
      (await pods.take()).map(({ frame }) => dissect(frame)),
      [],
    );
  });
}

/** Kinds of packets, each of which takes another way through the datapath or the stack. */
function shapes(family: Family, src: string, dst: string, pod: Pod): Packet[] {
  const ip = { src, dst };
  const flow = { sport: 5000, dport: 7000 };
  const datagram = { ip, udp: flow };
  const shapes: Packet[] = [
    datagram,
    { ip, udp: { ...flow, sport: 40_000 } },
    { ip, tcp: { ...flow, flags: 'S' } },
    { ip, tcp: { ...flow, sport: 5001, flags: 'A' } },
    { ip, tcp: { ...flow, sport: 5002, flags: 'R' } },
    { ip, tcp: { ...flow, sport: 5003, flags: 'SA' } },
    { ip, tcp: { ...flow, sport: 5004, flags: '' } },
    { ip, sctp: flow },
    { ip, sctp: { ...flow, sport: 40_001 } },
    { ip, icmp: { message: 'echo-request', id: 1 } },
    { ip, icmp: { message: 'echo-reply', id: 2 } },
    { ip, icmp: { message: 'port-unreachable', quote: { ip: { src: dst, dst: src }, udp: flow } } },
    {
      ip,
      icmp: { message: 'too-big', mtu: 1280, quote: { ip: { src: dst, dst: src }, udp: flow } },
    },
    { ip, icmp: { type: 13, code: 0 } },
    ...[2, 4, 41, 47, 50, 51, 89, 253].map((protocol) => ({ ip, raw: { protocol } })),
    { ip: { ...ip, ttl: 1 }, udp: { ...flow, sport: 5010 } },
    { ip: { ...ip, ttl: 2 }, udp: { ...flow, sport: 5011 } },
    {
      ip: { ...ip, fragment: { offset: 0, length: 64, more: true } },
      udp: flow,
      payload: filled(256),
    },
    {
      ip: { ...ip, fragment: { offset: 64, length: 64, more: true } },
      udp: flow,
      payload: filled(256),
    },
    { ip, udp: { ...flow, sport: 5012 }, payload: filled(1400) },
    { ip, udp: { ...flow, sport: 5013, length: 4000 } },
    { ip: { src, dst: pod.addresses[family] }, udp: flow },
  ];
  if (family === 'ipv4') {
    const routed = Uint8Array.of(131, 7, 4, 203, 0, 113, 45, 0);
    shapes.push({ ip: { ...ip, options: routed }, udp: { ...flow, sport: 5014 } });
  } else {
    const extensions = [{ type: DESTINATION_OPTIONS }, { type: DESTINATION_OPTIONS }];
    const many = Array.from({ length: 12 }, () => ({ type: DESTINATION_OPTIONS }));
    shapes.push({ ip: { ...ip, extensions }, udp: { ...flow, sport: 5015 } });
    shapes.push({ ip: { ...ip, extensions: many }, udp: { ...flow, sport: 5016 } });
  }
  return shapes;
}

function filled(bytes: number): Uint8Array {
  return new Uint8Array(bytes).fill(0x5a);
}
