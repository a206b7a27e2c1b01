import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { buildPacket, type Packet } from '../lib/packet.ts';
import { openRig, PEOPLE, type Rig, type RunOptions } from './rig.ts';

const OUTGOING = 'to_netdev';

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, B, G, N, R, W, X } = PEOPLE[family];
  const v4 = family === 'ipv4';

  describe(`drop reasons, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());

    const tcp = { sport: 40000, dport: 443, flags: 'S' };
    const dropped = (
      hook: Parameters<Rig['run']>[0],
      packet: Packet | Uint8Array,
      reason: string,
      options?: RunOptions,
    ) => {
      const bytes = packet instanceof Uint8Array ? packet : buildPacket(packet);
      const result = rig.run(hook, bytes, options);
      assert.equal(result.verdict, 'drop');
      assert.deepEqual(result.counted, { [`drop ${reason}`]: 1, 'verdict drop': 1 });
      assert.deepEqual(result.packet, bytes, 'a dropped packet is not touched');
    };
    const fromPod = () => ({ ingressIfindex: rig.ifindex.a });

    test('malformed: headers that end early, impossible lengths and versions', () => {
      const good: Packet = { ip: { src: A, dst: W }, tcp, payload: 'data' };
      const header = v4 ? 20 : 40;
      for (const packet of [
        { ...good, truncate: 14 + header + 10 },
        { ...good, ip: { ...good.ip, version: v4 ? 6 : 4 } },
        { ...good, ip: { ...good.ip, length: 9999 } },
        { ...good, tcp: { ...tcp, headerLength: 8 } },
        { ip: good.ip, udp: { sport: 1, dport: 2, length: 7 } },
        { ip: good.ip, udp: { sport: 1, dport: 2, length: 9 } },
        { ip: good.ip, sctp: { sport: 1, dport: 2 }, truncate: 14 + header + 8 },
        ...(v4 ? [{ ...good, ip: { ...good.ip, headerLength: 16 } }] : []),
      ]) {
        for (const hook of ['from_endpoint', 'to_endpoint', 'from_netdev', OUTGOING] as const) {
          dropped(hook, packet, 'malformed');
        }
      }
    });

    test('malformed: transport headers in the padding behind the packet', () => {
      const base = v4 ? 20 : 0;
      const echo = { message: 'echo-request', id: 1, sequence: 1 } as const;
      const ends = (length: number) => ({ src: A, dst: W, length: base + length });
      for (const packet of [
        { ip: ends(0), tcp },
        { ip: ends(19), tcp },
        { ip: ends(7), udp: { sport: 1, dport: 2 } },
        { ip: ends(7), icmp: echo },
        { ip: { src: A, dst: W }, tcp: { ...tcp, headerLength: 24 } },
      ]) {
        dropped('from_endpoint', packet, 'malformed');
      }
    });

    test('extension_headers: more than are walked', { skip: v4 }, () => {
      const extensions = Array.from({ length: 9 }, () => ({ type: 60 }));
      dropped('from_netdev', { ip: { src: W, dst: A, extensions }, tcp }, 'extension_headers');
    });

    test('extension headers within the bound are walked', { skip: v4 }, () => {
      const extensions = [{ type: 0 }, { type: 43 }, { type: 60, body: new Uint8Array(30) }];
      const packet = buildPacket({ ip: { src: A, dst: W, extensions }, tcp });
      const out = rig.out(packet);
      assert.equal(out.verdict, 'pass');
      assert.ok(rig.nat({ src: A, dst: W, sport: 40000, dport: 443, protocol: 6, kind: 0 }));
    });

    test('invalid_source: another pod’s, the node’s, an unknown address', () => {
      for (const src of [B, N, W, X, ...(v4 ? ['169.254.1.1', '127.0.0.1'] : [])]) {
        dropped('from_endpoint', { ip: { src, dst: W }, tcp }, 'invalid_source');
      }
    });

    test('unknown_source: in node.podCIDRs, and nobody’s', () => {
      for (const src of [X, G]) {
        dropped(OUTGOING, { ip: { src, dst: W }, tcp }, 'unknown_source', fromPod());
      }
    });

    test('spoofed_source: the network sends as a pod or as the node', () => {
      for (const src of [B, N]) {
        dropped('from_netdev', { ip: { src, dst: A }, tcp }, 'spoofed_source');
      }
    });

    test('spoofed_source: through the node in a pod’s name', () => {
      dropped('from_netdev', { ip: { src: A, dst: W }, tcp }, 'spoofed_source');
      const transit = buildPacket({ ip: { src: R, dst: W }, tcp });
      assert.equal(rig.run('from_netdev', transit).verdict, 'pass');
    });

    test('icmp_unsupported: an error, another message, an answer nobody asked for', () => {
      for (const icmp of [
        { message: 'port-unreachable', quote: { ip: { src: W, dst: A }, tcp } },
        { type: v4 ? 13 : 200, code: 0 },
        { message: 'echo-reply', id: 1, sequence: 1 },
      ] as const) {
        dropped(OUTGOING, { ip: { src: A, dst: W }, icmp }, 'icmp_unsupported', fromPod());
      }
    });

    test('fragment_unsupported: every piece, the first one too', () => {
      for (const offset of [0, 64]) {
        const fragment = { offset, length: 64, more: true };
        const packet = { ip: { src: A, dst: W, fragment }, udp: { sport: 1, dport: 2 } };
        const bytes = buildPacket({ ...packet, payload: 'x'.repeat(300) });
        dropped(OUTGOING, bytes, 'fragment_unsupported', fromPod());
        assert.equal(rig.run('from_endpoint', bytes).verdict, 'pass', 'left to the stack');
      }
    });

    test('protocol_unsupported: GRE, ESP and the like', () => {
      for (const protocol of [47, 50, 89]) {
        const packet = { ip: { src: A, dst: W }, raw: { protocol }, payload: 'x'.repeat(20) };
        dropped(OUTGOING, packet, 'protocol_unsupported', fromPod());
      }
    });

    test('what is not carried leaves for destinations that need no translation', () => {
      const fragment = { offset: 64, length: 64, more: true };
      for (const packet of [
        { ip: { src: A, dst: R }, raw: { protocol: 47 }, payload: 'x'.repeat(20) },
        { ip: { src: A, dst: R, fragment }, udp: { sport: 1, dport: 2 }, payload: 'x'.repeat(300) },
      ]) {
        assert.equal(rig.run(OUTGOING, buildPacket(packet), fromPod()).verdict, 'pass');
      }
    });

    test('half_lost: the node’s bare RST and port unreachable, and nothing else of its own', () => {
      const own = { ingressIfindex: 0 };
      const rst = (flags: string, sport = 40000): Packet => ({
        ip: { src: N, dst: W },
        tcp: { sport, dport: 443, flags },
      });
      dropped(OUTGOING, rst('R'), 'half_lost', own);
      for (const other of [rst('RA'), rst('R', 80), rst('S')]) {
        assert.equal(rig.run(OUTGOING, buildPacket(other), own).verdict, 'pass');
      }
      const unreachable = (dport: number): Packet => ({
        ip: { src: N, dst: W },
        icmp: {
          message: 'port-unreachable',
          quote: { ip: { src: W, dst: N }, udp: { sport: 53, dport } },
        },
      });
      dropped(OUTGOING, unreachable(40000), 'half_lost', own);
      assert.equal(rig.run(OUTGOING, buildPacket(unreachable(53)), own).verdict, 'pass');
    });

    test('other programs’ packets and other protocols pass uncounted', () => {
      const other = PEOPLE[v4 ? 'ipv6' : 'ipv4'];
      const packet = buildPacket({ ip: { src: other.A, dst: other.W }, tcp });
      for (const hook of ['from_endpoint', 'to_endpoint', 'from_netdev', OUTGOING] as const) {
        const { verdict, counted } = rig.run(hook, packet);
        assert.equal(verdict, 'pass');
        assert.deepEqual(counted, {});
      }
    });

    test('neighbour discovery and multicast pass without a record', async () => {
      await rig.clear();
      const packets: Packet[] = v4
        ? [{ ip: { src: A, dst: '224.0.0.251' }, udp: { sport: 5353, dport: 5353 } }]
        : [
            { ip: { src: '::', dst: 'ff02::1:ff00:10' }, icmp: { type: 135, code: 0 } },
            { ip: { src: 'fe80::1', dst: 'ff02::2' }, icmp: { type: 133, code: 0 } },
            { ip: { src: A, dst: G }, icmp: { type: 136, code: 0 } },
            { ip: { src: 'fe80::1', dst: 'ff02::16' }, icmp: { type: 143, code: 0 } },
          ];
      for (const packet of packets) {
        assert.equal(rig.run('from_endpoint', buildPacket(packet)).verdict, 'pass');
      }
      assert.equal(await rig.count('ct_any'), 0);
    });
  });

  describe(`no egress address, ${family}`, () => {
    test('no_egress_address: masquerade is due and the device has none', async () => {
      await using rig = await openRig(family, { egressAddress: false });
      const packet = buildPacket({
        ip: { src: A, dst: W },
        tcp: { sport: 1, dport: 2, flags: 'S' },
      });
      const { verdict, counted } = rig.out(packet);
      assert.equal(verdict, 'drop');
      assert.equal(counted['drop no_egress_address'], 1);
    });

    test('masquerade off: the flow is tracked and leaves as it is', async () => {
      await using rig = await openRig(family, { masquerade: false });
      const packet = buildPacket({
        ip: { src: A, dst: W },
        tcp: { sport: 1, dport: 2, flags: 'S' },
      });
      const { verdict, counted } = rig.out(packet);
      assert.equal(verdict, 'pass');
      assert.deepEqual(counted, { 'verdict pass': 1, 'created ct_tcp': 1, 'created ct_any': 1 });
    });
  });
}
