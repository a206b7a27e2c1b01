import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ct_flag, ct_seen, nat_class } from '../../agent/abi/generated.ts';
import { assertPacket } from '../lib/assert-packet.ts';
import { buildPacket, type Packet } from '../lib/packet.ts';
import type { FlowKey } from '../lib/tables.ts';
import { openRig, PEOPLE, type Rig, TIMEOUTS } from './rig.ts';

const { CT_RX_CLOSING, CT_TX_CLOSING, CT_SEEN_NON_SYN } = ct_flag;

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, B, N, W } = PEOPLE[family];
  const icmp = family === 'ipv4' ? 1 : 58;

  describe(`the life of a TCP entry, ${family}`, () => {
    let rig: Rig;
    let port = 40000;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());

    const key = (): FlowKey => ({
      ...{ src: A, dst: W, sport: port, dport: 443, protocol: 6, kind: 0 },
    });
    const sends = (flags: string) =>
      rig.out(buildPacket({ ip: { src: A, dst: W }, tcp: { sport: port, dport: 443, flags } }));
    const receives = (flags: string) =>
      rig.run(
        'from_netdev',
        buildPacket({ ip: { src: W, dst: N }, tcp: { sport: 443, dport: port, flags } }),
      );
    const entry = () => {
      const found = rig.ct(key());
      assert.ok(found, 'the entry is there');
      return { ...found, left: found.expires - rig.now() };
    };
    const established = () => {
      port += 1;
      sends('S');
      receives('SA');
      sends('A');
    };
    const near = (actual: number, expected: number) =>
      assert.ok(Math.abs(actual - expected) <= 1, `${actual} s left, expected ${expected}`);

    test('a SYN lives tcpSyn, a SYN-ACK as well, and the first ACK gives tcp', () => {
      port += 1;
      sends('S');
      near(entry().left, TIMEOUTS.tcpSyn);
      assert.equal(entry().flags, 0);
      receives('SA');
      near(entry().left, TIMEOUTS.tcpSyn);
      assert.equal(entry().flags, 0);
      sends('A');
      near(entry().left, TIMEOUTS.tcp);
      assert.equal(entry().flags, CT_SEEN_NON_SYN);
      assert.equal(entry().tx_flags_seen, 0x12);
      assert.equal(entry().rx_flags_seen, 0x12);
    });

    test('the published example: both sides close, 0x0013', () => {
      established();
      sends('FA');
      near(entry().left, TIMEOUTS.tcp);
      assert.equal(entry().flags, CT_SEEN_NON_SYN | CT_TX_CLOSING);
      receives('FPA');
      near(entry().left, TIMEOUTS.tcpClose);
      assert.equal(entry().flags, 0x13);
      const before = entry().expires;
      sends('A');
      assert.equal(entry().expires, before, 'the last ACK keeps nothing alive');
      assert.equal(rig.nat(key())?.class, nat_class.NAT_CLASS_CLOSING);
      assert.equal(rig.nat(key())?.expires, before);
    });

    test('a SYN on a closing entry starts a new connection in it', () => {
      established();
      sends('FA');
      receives('FA');
      sends('S');
      assert.equal(entry().flags, 0);
      assert.equal(entry().seen, ct_seen.CT_SEEN_TX);
      near(entry().left, TIMEOUTS.tcpSyn);
      assert.equal(rig.nat(key())?.class, nat_class.NAT_CLASS_SYN);
      assert.equal(rig.nat(key())?.port, port);
    });

    test('a SYN on a live entry changes nothing', () => {
      established();
      sends('S');
      near(entry().left, TIMEOUTS.tcp);
      assert.equal(entry().flags, CT_SEEN_NON_SYN);
    });

    test('a SYN from outside never reopens what the pod opened', () => {
      established();
      sends('FA');
      receives('S');
      assert.equal(entry().flags & CT_TX_CLOSING, CT_TX_CLOSING);
    });

    test("a pod's RST frees its port within tcpClose, and both halves know", () => {
      established();
      sends('R');
      near(entry().left, TIMEOUTS.tcpClose);
      near((rig.nat(key())?.expires ?? 0) - rig.now(), TIMEOUTS.tcpClose);
    });

    test('a RST from outside leaves four minutes, and the next data from the pod everything', () => {
      established();
      receives('R');
      near(entry().left, 240);
      assert.equal(entry().flags & CT_RX_CLOSING, CT_RX_CLOSING);
      receives('PA');
      near(entry().left, 240);
      sends('PA');
      near(entry().left, TIMEOUTS.tcp);
      assert.equal(entry().flags, CT_SEEN_NON_SYN);
      near((rig.nat(key())?.expires ?? 0) - rig.now(), TIMEOUTS.tcp);
    });

    test('a forged RST before a FIN does not pass for the end of both sides', () => {
      established();
      receives('R');
      sends('FA');
      assert.ok(entry().left > 200);
      receives('PA');
      sends('A');
      near(entry().left, TIMEOUTS.tcp);
    });

    test('a RST from outside never lengthens a life', () => {
      port += 1;
      sends('S');
      receives('RA');
      near(entry().left, TIMEOUTS.tcpSyn);
    });

    test('an ACK flood makes no long-lived entry', () => {
      port += 1;
      for (let i = 0; i < 5; i++) sends('A');
      near(entry().left, TIMEOUTS.tcpSyn);
      receives('PA');
      sends('A');
      near(entry().left, TIMEOUTS.tcp);
    });

    test('an expired entry is a miss, and is revived in place by a new connection', () => {
      established();
      rig.patchCt(key(), { expires: rig.now() });
      const counted = sends('S').counted;
      assert.equal(counted['created ct_tcp'], undefined);
      near(entry().left, TIMEOUTS.tcpSyn);
      assert.equal(entry().flags, 0);
      assert.equal(entry().nat_port, port);
    });

    test('an entry that stays claimed is nobody’s: the next connection fills it', () => {
      established();
      rig.patchCt(key(), { expires: 0 });
      sends('S');
      near(entry().left, TIMEOUTS.tcpSyn);
      assert.equal(entry().flags, 0);
    });

    test('an expired entry makes its halves dead: a reply is nobody’s', () => {
      established();
      rig.patchCt(key(), { expires: rig.now() });
      assert.equal(receives('PA').verdict, 'pass');
    });

    test('an expired reverse half is a miss as well', () => {
      established();
      const reverse = { src: W, dst: N, sport: 443, dport: port, protocol: 6, kind: 1 };
      rig.patchNat(reverse, { expires: rig.now() });
      assert.equal(receives('PA').verdict, 'pass');
    });

    test('flags are reported when they are new, and otherwise every 5 s', () => {
      established();
      rig.patchCt(key(), { last_tx_report: rig.now() - 4 });
      sends('A');
      assert.ok(rig.now() - entry().last_tx_report >= 4);
      rig.patchCt(key(), { last_tx_report: rig.now() - 5 });
      sends('A');
      assert.ok(rig.now() - entry().last_tx_report <= 1);
    });

    test('the companion of the pair is refreshed with the report, and is nobody’s alone', () => {
      established();
      const companion = { src: A, dst: W, sport: 0, dport: 0, protocol: icmp, kind: 2 };
      rig.patchCt(companion, { expires: rig.now() + 3 });
      sends('A');
      near((rig.ct(companion)?.expires ?? 0) - rig.now(), 3);
      rig.patchCt(key(), { last_tx_report: rig.now() - 5 });
      sends('A');
      near((rig.ct(companion)?.expires ?? 0) - rig.now(), TIMEOUTS.any);
    });
  });

  describe(`pods and their node, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());

    const packet = (src: string, dst: string, sport: number, dport: number): Packet => ({
      ip: { src, dst },
      tcp: { sport, dport, flags: 'S' },
    });
    const key = (
      src: string,
      dst: string,
      sport: number,
      dport: number,
      kind: number,
    ): FlowKey => ({
      ...{ src, dst, sport, dport, protocol: 6, kind },
    });

    test('pod to pod: an entry on each side, delivered at once', () => {
      const { verdict, counted } = rig.run('from_endpoint', buildPacket(packet(A, B, 54260, 8000)));
      assert.equal(verdict, 'redirect');
      assert.equal(counted['verdict deliver'], 1);
      assert.equal(rig.ct(key(A, B, 54260, 8000, 0))?.src_identity, 3001);
      assert.equal(rig.ct(key(A, B, 54260, 8000, 1))?.src_identity, 3001);
      const reply = buildPacket({
        ip: { src: B, dst: A },
        tcp: { sport: 8000, dport: 54260, flags: 'SA' },
      });
      const back = rig.run('from_endpoint', reply, { device: 'b' });
      assert.equal(back.counted['verdict deliver'], 1);
      assert.equal(back.counted['created ct_tcp'], undefined);
      assert.equal(rig.ct(key(A, B, 54260, 8000, 0))?.rx_flags_seen, 0x12);
    });

    test('pod to node is tracked and left to the kernel, and so is the answer', () => {
      const sent = rig.run('from_endpoint', buildPacket(packet(A, N, 40000, 22)));
      assert.equal(sent.counted['verdict pass'], 1);
      const answer = buildPacket({
        ip: { src: N, dst: A },
        tcp: { sport: 22, dport: 40000, flags: 'SA' },
      });
      const back = rig.run('to_endpoint', answer, { ingressIfindex: 0 });
      assert.equal(back.verdict, 'pass');
      assert.equal(rig.ct(key(A, N, 40000, 22, 0))?.seen, ct_seen.CT_SEEN_BOTH);
      assert.equal(rig.ct(key(N, A, 22, 40000, 1)), undefined);
    });

    test('node to pod: IN, and the pod’s answer is a reply', () => {
      rig.run('to_endpoint', buildPacket(packet(N, A, 50000, 80)), { ingressIfindex: 0 });
      assert.ok(rig.ct(key(N, A, 50000, 80, 1)));
      const answer = buildPacket({
        ip: { src: A, dst: N },
        tcp: { sport: 80, dport: 50000, flags: 'SA' },
      });
      assert.equal(rig.run('from_endpoint', answer).verdict, 'pass');
      assert.equal(rig.ct(key(A, N, 80, 50000, 0)), undefined);
    });

    test('the answer to a flow that the world opened to a pod leaves as it is', () => {
      const inward = rig.run('from_netdev', buildPacket(packet(W, A, 33333, 80)));
      assert.equal(inward.counted['verdict deliver'], 1);
      const answer = buildPacket({
        ip: { src: A, dst: W },
        tcp: { sport: 80, dport: 33333, flags: 'SA' },
      });
      const out = rig.out(answer);
      assert.equal(out.verdict, 'pass');
      assert.equal(out.counted['created snat'], undefined);
      assert.equal(rig.nat(key(A, W, 80, 33333, 0)), undefined);
    });

    test('the same through the stack, where cb is lost', () => {
      const answer = buildPacket({
        ip: { src: A, dst: W },
        tcp: { sport: 80, dport: 33333, flags: 'A' },
      });
      const out = rig.run('to_netdev', answer, { ingressIfindex: rig.ifindex.a });
      assert.equal(out.verdict, 'pass');
      assert.deepEqual(out.counted, { 'verdict pass': 1 });
    });

    test('a stray IN entry does not let the pod’s own flow out bare', () => {
      rig.out(buildPacket(packet(A, W, 45000, 443)));
      const now = rig.now();
      rig.patchCt(key(W, A, 443, 45000, 1), { expires: now + 60 });
      const again: Packet = {
        ip: { src: A, dst: W },
        tcp: { sport: 45000, dport: 443, flags: 'A' },
      };
      const out = rig.out(buildPacket(again));
      assert.notDeepEqual(out.packet, buildPacket(again));
      assert.ok(rig.nat(key(A, W, 45000, 443, 0)));
    });

    test('nor when the entry of that flow was lost, but not its forward half', () => {
      for (const [protocol, transport] of [
        [6, { tcp: { sport: 45002, dport: 443, flags: 'A' } }],
        [17, { udp: { sport: 45002, dport: 443 } }],
      ] as const) {
        const own: Packet = { ip: { src: A, dst: W }, ...transport };
        const flow = { ...key(A, W, 45002, 443, 0), protocol };
        rig.out(buildPacket(own));
        rig.remove(protocol === 6 ? 'ct_tcp' : 'ct_any', flow);
        rig.patchCt({ ...key(W, A, 443, 45002, 1), protocol }, { expires: rig.now() + 60 });
        assertPacket(rig.out(buildPacket(own)).packet, { ...own, ip: { src: N, dst: W, ttl: 63 } });
        assert.equal(rig.ct(flow)?.nat_port, 45002);
      }
    });

    test('nor does one that the world made, when the pod opens', () => {
      for (const flags of ['S', 'SA', 'A']) {
        const inward: Packet = { ip: { src: W, dst: A }, tcp: { sport: 443, dport: 45001, flags } };
        rig.run('from_netdev', buildPacket(inward));
      }
      rig.out(buildPacket(packet(A, W, 45001, 443)));
      assert.ok(rig.nat(key(A, W, 45001, 443, 0)));
      assert.equal(rig.ct(key(A, W, 45001, 443, 0))?.nat_port, 45001);
    });

    test('an excluded destination is tracked and not translated', () => {
      const { R } = PEOPLE[family];
      const out = rig.out(buildPacket(packet(A, R, 40000, 80)));
      assert.equal(out.verdict, 'pass');
      assert.equal(out.counted['created ct_tcp'], 1);
      assert.equal(out.counted['created snat'], undefined);
      const entry = rig.ct(key(A, R, 40000, 80, 0));
      assert.equal(entry?.nat_port, 0);
    });

    test('nor by an expired half from before it was excluded', () => {
      const { R } = PEOPLE[family];
      const half = key(A, R, 40001, 80, 0);
      rig.patchNat(half, { port: 5, expires: rig.now() });
      const out = rig.out(buildPacket(packet(A, R, 40001, 80)));
      assert.deepEqual(out.counted, { 'verdict pass': 1, 'created ct_tcp': 1 });
      assert.equal(rig.nat(half)?.port, 5);
    });

    test('and has no port any more that it had before it was excluded', () => {
      const { R } = PEOPLE[family];
      const flow = key(A, R, 40002, 80, 0);
      rig.out(buildPacket(packet(A, R, 40002, 80)));
      rig.patchCt(flow, { nat_port: 40002 });
      const out = rig.out(buildPacket(packet(A, R, 40002, 80)));
      assert.deepEqual(out.counted, { 'verdict pass': 1 });
      assert.equal(rig.ct(flow)?.nat_port, 0);
    });

    test('the node’s own packet costs nothing where nobody holds its port', () => {
      const own = rig.run('to_netdev', buildPacket(packet(N, W, 50001, 443)), {
        ingressIfindex: 0,
      });
      assert.deepEqual(own.counted, { 'verdict pass': 1 });
    });

    test('the node’s own flow moves to another port when a pod holds its own', () => {
      rig.out(buildPacket(packet(A, W, 50002, 443)));
      const own = rig.run('to_netdev', buildPacket(packet(N, W, 50002, 443)), {
        ingressIfindex: 0,
      });
      assert.equal(own.verdict, 'pass');
      const half = rig.nat(key(N, W, 50002, 443, 0));
      assert.ok(half && half.port !== 50002);
      assert.equal(half.flags, 1);
      assert.ok(rig.ct(key(N, W, 50002, 443, 0)));
      const reply = buildPacket({
        ip: { src: W, dst: N },
        tcp: { sport: 443, dport: half.port, flags: 'SA' },
      });
      assert.equal(rig.run('from_netdev', reply).verdict, 'pass');
      rig.remove('snat', key(W, N, 443, 50002, 1));
      const later: Packet = {
        ip: { src: N, dst: W },
        tcp: { sport: 50002, dport: 443, flags: 'A' },
      };
      const kept = rig.run('to_netdev', buildPacket(later), { ingressIfindex: 0 });
      assert.notDeepEqual(
        kept.packet,
        buildPacket(later),
        'it keeps its new port when the pod is gone',
      );
      const companion = { src: N, dst: W, sport: 0, dport: 0, protocol: icmp, kind: 2 };
      assert.equal(rig.ct(companion), undefined, 'and has no companion');
    });
  });
}
