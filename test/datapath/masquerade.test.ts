import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ct_flag, ct_seen, nat_class } from '../../agent/abi/generated.ts';
import { assertPacket } from '../lib/assert-packet.ts';
import { buildPacket, type Packet } from '../lib/packet.ts';
import type { FlowKey } from '../lib/tables.ts';
import { openRig, PEOPLE, type Rig, TIMEOUTS } from './rig.ts';

const OUT = 0;
const IN = 1;

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, N, W } = PEOPLE[family];
  const icmp = family === 'ipv4' ? 1 : 58;

  /** The flow's key in CT and its forward half. */
  const flow = (sport: number, protocol = 6): FlowKey => ({
    ...{ src: A, dst: W, sport, dport: protocol === icmp ? 0 : 443, protocol, kind: OUT },
  });
  const reverse = (nport: number, protocol = 6): FlowKey => ({
    ...{ src: W, dst: N, sport: protocol === icmp ? 0 : 443, dport: nport, protocol, kind: IN },
  });
  const tcp = (sport: number, flags: string, payload = ''): Packet => ({
    ip: { src: A, dst: W },
    tcp: { sport, dport: 443, flags },
    payload,
  });
  const answer = (nport: number, flags: string, payload = ''): Packet => ({
    ip: { src: W, dst: N },
    tcp: { sport: 443, dport: nport, flags },
    payload,
  });

  describe(`pod to world, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());

    const handshake = (sport: number) => {
      rig.out(buildPacket(tcp(sport, 'S')));
      rig.run('from_netdev', buildPacket(answer(sport, 'SA')));
      rig.out(buildPacket(tcp(sport, 'A')));
    };

    test('a connection keeps its port, and each hook says what it did', () => {
      const first = rig.run('from_endpoint', buildPacket(tcp(40000, 'S')));
      assert.equal(first.verdict, 'redirect');
      assert.deepEqual(first.counted, { 'verdict forward': 1 });
      assertPacket(first.packet, { ...tcp(40000, 'S'), ip: { src: A, dst: W, ttl: 63 } });
      assert.equal(rig.ct(flow(40000)), undefined, 'recorded only once its port is known');

      const second = rig.run('to_netdev', first.packet, {
        cb: first.cb,
        ingressIfindex: rig.ifindex.a,
      });
      assert.equal(second.verdict, 'pass');
      assert.deepEqual(second.counted, {
        'verdict pass': 1,
        'created ct_tcp': 1,
        'created ct_any': 1,
        'created snat': 2,
        'attempts 0': 1,
      });
      assertPacket(second.packet, { ...tcp(40000, 'S'), ip: { src: N, dst: W, ttl: 63 } });

      const reply = rig.run('from_netdev', buildPacket(answer(40000, 'SA')));
      assert.equal(reply.verdict, 'redirect');
      assert.deepEqual(reply.counted, { 'verdict deliver': 1 });
      assert.deepEqual([reply.mark, ...reply.cb], [0, 0, 0, 0, 0, 0]);
      assertPacket(reply.packet, {
        ip: { src: W, dst: A, ttl: 63 },
        tcp: { sport: 443, dport: 40000, flags: 'SA' },
      });
    });

    test('all three records know the port, and live as long as the connection', () => {
      handshake(40001);
      const now = rig.now();
      const entry = rig.ct(flow(40001));
      assert.ok(entry);
      assert.equal(entry.nat_port, 40001);
      assert.equal(entry.seen, ct_seen.CT_SEEN_BOTH);
      assert.equal(entry.flags, ct_flag.CT_SEEN_NON_SYN);
      assert.equal(entry.src_identity, 3001);
      for (const half of [rig.nat(flow(40001)), rig.nat(reverse(40001))]) {
        assert.equal(half?.class, nat_class.NAT_CLASS_ESTABLISHED);
        assert.equal(half?.expires, entry.expires);
      }
      assert.ok(Math.abs(entry.expires - now - TIMEOUTS.tcp) <= 1);
    });

    test('a second north-south device below the first finds nothing to do', () => {
      const out = rig.out(buildPacket(tcp(40003, 'S')));
      const below = rig.run('to_netdev', out.packet, {
        cb: out.cb,
        ingressIfindex: rig.ifindex.a,
      });
      assert.deepEqual(below.counted, { 'verdict pass': 1 });
      assert.deepEqual(below.packet, out.packet);
    });

    test('an address of the node that leaves all the same is masqueraded like any other', () => {
      const moved: Packet = { ...tcp(40004, 'S'), ip: { src: A, dst: N } };
      const out = rig.out(buildPacket(moved));
      assert.deepEqual(out.counted, { 'verdict pass': 1, 'created snat': 2, 'attempts 0': 1 });
      assertPacket(out.packet, { ...moved, ip: { src: N, dst: N } });
    });

    test('an established packet writes and creates nothing', () => {
      handshake(40002);
      const { counted } = rig.out(buildPacket(tcp(40002, 'PA', 'data')));
      assert.deepEqual(counted, { 'verdict pass': 1 });
    });

    test('UDP and echo requests leave as the node and come back', () => {
      const udp: Packet = { ip: { src: A, dst: W }, udp: { sport: 40000, dport: 443 } };
      assertPacket(rig.out(buildPacket(udp)).packet, { ...udp, ip: { src: N, dst: W, ttl: 63 } });
      const back: Packet = { ip: { src: W, dst: N }, udp: { sport: 443, dport: 40000 } };
      assertPacket(rig.run('from_netdev', buildPacket(back)).packet, {
        ...back,
        ip: { src: W, dst: A, ttl: 63 },
      });

      const echo = { message: 'echo-request', id: 7, sequence: 1 } as const;
      assertPacket(rig.out(buildPacket({ ip: { src: A, dst: W }, icmp: echo })).packet, {
        ip: { src: N, dst: W, ttl: 63 },
        icmp: echo,
      });
      const pong = { message: 'echo-reply', id: 7, sequence: 1 } as const;
      assertPacket(
        rig.run('from_netdev', buildPacket({ ip: { src: W, dst: N }, icmp: pong })).packet,
        { ip: { src: W, dst: A, ttl: 63 }, icmp: pong },
      );
    });

    test('a port outside the range is translated, the same way for every packet', () => {
      const out = rig.out(buildPacket(tcp(1234, 'S')));
      const port = rig.nat(flow(1234))?.port ?? 0;
      assert.ok(port >= 32768);
      assertPacket(out.packet, {
        ip: { src: N, dst: W, ttl: 63 },
        tcp: { sport: port, dport: 443, flags: 'S' },
      });
      assertPacket(rig.run('from_netdev', buildPacket(answer(port, 'SA', 'x'))).packet, {
        ip: { src: W, dst: A, ttl: 63 },
        tcp: { sport: 443, dport: 1234, flags: 'SA' },
        payload: 'x',
      });
    });

    test('a datagram without a checksum stays without one', { skip: family === 'ipv6' }, () => {
      const bare: Packet = {
        ip: { src: A, dst: W },
        udp: { sport: 1111, dport: 53, checksum: 0 },
      };
      const port = rig.nat({ ...flow(1111, 17), dport: 53 })?.port;
      assert.equal(port, undefined);
      const out = rig.out(buildPacket(bare));
      const to = rig.nat({ ...flow(1111, 17), dport: 53 })?.port ?? 0;
      assertPacket(out.packet, {
        ip: { src: N, dst: W, ttl: 63 },
        udp: { sport: to, dport: 53, checksum: 0 },
      });
    });

    test('no other message passes for an echo request', () => {
      const { B } = PEOPLE[family];
      const icmp = { message: 'echo-request', id: 0 } as const;
      const first = rig.run('from_endpoint', buildPacket({ ip: { src: B, dst: W }, icmp }), {
        device: 'b',
      });
      rig.run('to_netdev', first.packet, { cb: first.cb, ingressIfindex: rig.ifindex.b });
      const echo = buildPacket({ ip: { src: A, dst: W }, icmp });
      for (let i = 0; i < 3; i++) assert.notEqual(rig.out(echo).verdict, 'drop');
      const other = { ip: { src: A, dst: W }, icmp: { type: 140, code: 0 } };
      assert.equal(rig.out(buildPacket(other)).counted['drop icmp_unsupported'], 1);
    });

    test('two pods with one port to one peer get two ports', () => {
      const { B } = PEOPLE[family];
      rig.out(buildPacket(tcp(41000, 'S')));
      const other: Packet = { ...tcp(41000, 'S'), ip: { src: B, dst: W } };
      const first = rig.run('from_endpoint', buildPacket(other), { device: 'b' });
      rig.run('to_netdev', first.packet, { cb: first.cb, ingressIfindex: rig.ifindex.b });
      const port = rig.nat({ ...flow(41000), src: B })?.port;
      assert.notEqual(port, 41000);
      assert.equal(rig.nat(reverse(41000))?.port, 41000);
      assert.equal(rig.nat(reverse(port ?? 0))?.port, 41000);
    });
  });

  describe(`the restore matrix, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());

    /** Both halves as if their partners had last been looked at a while ago. */
    const age = (sport: number, port: number) => {
      for (const key of [flow(sport), reverse(port)]) {
        if (rig.nat(key)) rig.patchNat(key, { touched: (rig.now() - 5) & 0xffff });
      }
    };

    for (const [kind, sport] of [
      ['kept', 42000],
      ['translated', 1200],
    ] as const) {
      const open = (offset: number) => {
        const from = sport + offset;
        rig.out(buildPacket(tcp(from, 'S')));
        const port = rig.nat(flow(from))?.port ?? 0;
        rig.run('from_netdev', buildPacket(answer(port, 'SA')));
        rig.out(buildPacket(tcp(from, 'A')));
        age(from, port);
        return { from, port };
      };
      const leavesAs = (from: number, port: number) => {
        const out = rig.out(buildPacket(tcp(from, 'PA', 'more')));
        assertPacket(out.packet, {
          ip: { src: N, dst: W, ttl: 63 },
          tcp: { sport: port, dport: 443, flags: 'PA' },
          payload: 'more',
        });
        return out.counted;
      };
      const arrives = (from: number, port: number) => {
        const reply = rig.run('from_netdev', buildPacket(answer(port, 'PA', 'more')));
        assertPacket(reply.packet, {
          ip: { src: W, dst: A, ttl: 63 },
          tcp: { sport: 443, dport: from, flags: 'PA' },
          payload: 'more',
        });
        return reply.counted;
      };

      test(`${kind} port: the reverse half comes back with an outgoing packet`, () => {
        const { from, port } = open(1);
        const before = rig.nat(flow(from));
        rig.remove('snat', reverse(port));
        assert.equal(leavesAs(from, port)['restored reverse'], 1);
        assert.equal(rig.nat(reverse(port))?.expires, rig.nat(flow(from))?.expires);
        assert.equal(before?.class, rig.nat(reverse(port))?.class);
      });

      test(`${kind} port: a reply without its reverse half is the host's, whose RST is held back`, () => {
        const { port } = open(2);
        rig.remove('snat', reverse(port));
        assert.equal(rig.run('from_netdev', buildPacket(answer(port, 'PA', 'x'))).verdict, 'pass');
        const rst: Packet = {
          ip: { src: N, dst: W },
          tcp: { sport: port, dport: 443, flags: 'R' },
        };
        const held = rig.run('to_netdev', buildPacket(rst), { ingressIfindex: 0 });
        assert.equal(held.verdict, 'drop');
        assert.equal(held.counted['drop half_lost'], 1);
      });

      test(`${kind} port: the forward half comes back with a reply`, () => {
        const { from, port } = open(3);
        rig.remove('snat', flow(from));
        assert.equal(arrives(from, port)['restored forward'], 1);
        assert.equal(rig.nat(flow(from))?.port, port);
      });

      test(`${kind} port: the forward half is adopted by an outgoing packet`, () => {
        const { from, port } = open(4);
        rig.remove('snat', flow(from));
        assert.equal(leavesAs(from, port)['restored adopted'], 1);
      });

      test(`${kind} port: conntrack's word is taken until the second is over`, () => {
        let second: number;
        let offset = 20;
        do {
          const { from, port } = open(offset++);
          leavesAs(from, port);
          second = rig.now();
          rig.remove('snat', flow(from), 'once');
          const counted = leavesAs(from, port);
          if (rig.now() !== second) continue;
          assert.deepEqual(counted, { 'verdict pass': 1 });
          age(from, port);
          assert.equal(leavesAs(from, port)['restored adopted'], 1);
        } while (rig.now() !== second);
      });

      test(`${kind} port: adopted without CT as well`, () => {
        const { from, port } = open(5);
        rig.remove('snat', flow(from));
        rig.remove('ct_tcp', flow(from));
        const counted = leavesAs(from, port);
        assert.equal(counted['restored adopted'], 1);
        assert.equal(rig.ct(flow(from))?.nat_port, port);
      });

      test(`${kind} port: both halves come back from CT`, () => {
        const { from, port } = open(6);
        rig.remove('snat', flow(from));
        rig.remove('snat', reverse(port));
        const counted = leavesAs(from, port);
        assert.equal(counted['restored forward'], 1);
        assert.equal(counted['restored reverse'], 1);
        arrives(from, port);
      });

      test(`${kind} port: an expired half is a lost one, and is not adopted`, () => {
        const { from, port } = open(11);
        rig.remove('snat', flow(from));
        rig.patchNat(reverse(port), { expires: rig.now() });
        const counted = leavesAs(from, port);
        assert.equal(counted['restored forward'], 1);
        assert.equal(counted['restored reverse'], 1);
        assert.equal(counted['restored adopted'], undefined);
      });

      test(`${kind} port: a forward half that stays claimed is written over`, () => {
        const { from, port } = open(13);
        rig.patchNat(flow(from), { expires: 0 });
        leavesAs(from, port);
        const half = rig.nat(flow(from));
        assert.equal(half?.port, port);
        assert.ok((half?.expires ?? 0) > rig.now());
      });

      test(`${kind} port: a new connection in expired records restores nothing`, () => {
        const { from, port } = open(12);
        const past = { expires: rig.now() };
        rig.patchCt(flow(from), past);
        rig.patchNat(flow(from), past);
        rig.patchNat(reverse(port), past);
        const { counted } = rig.out(buildPacket(tcp(from, 'S')));
        assert.deepEqual(counted, { 'verdict pass': 1 });
        assert.equal(rig.nat(flow(from))?.port, port);
      });

      test(`${kind} port: with nothing left, the first candidate is the old port`, () => {
        const { from, port } = open(7);
        rig.remove('snat', flow(from));
        rig.remove('snat', reverse(port));
        rig.remove('ct_tcp', flow(from));
        leavesAs(from, port);
      });

      test(`${kind} port: a reply restores a lost CT entry as OUT, never as IN`, () => {
        const { from, port } = open(8);
        rig.remove('ct_tcp', flow(from));
        arrives(from, port);
        assert.equal(rig.ct(flow(from))?.nat_port, port);
        assert.equal(
          rig.ct({ ...flow(from), src: W, dst: A, sport: 443, dport: from, kind: IN }),
          undefined,
        );
        leavesAs(from, port);
      });

      test(`${kind} port: a lost CT entry never shortens the halves`, () => {
        const { from, port } = open(9);
        rig.remove('ct_tcp', flow(from));
        leavesAs(from, port);
        assert.ok((rig.nat(flow(from))?.expires ?? 0) - rig.now() > TIMEOUTS.tcp - 10);
        assert.ok((rig.ct(flow(from))?.expires ?? 0) - rig.now() <= TIMEOUTS.tcpSyn);
      });

      test(`${kind} port: a port that another flow took meanwhile stays that flow's`, () => {
        const { from, port } = open(10);
        const stranger = {
          addr: Uint8Array.from([9, 9, 9, 9, ...Array(12).fill(0)]).slice(
            0,
            family === 'ipv4' ? 4 : 16,
          ),
          port: 5,
        };
        rig.patchNat(reverse(port), stranger);
        const out = rig.out(buildPacket(tcp(from, 'PA')));
        const moved = rig.nat(flow(from))?.port ?? 0;
        assert.notEqual(moved, port);
        assertPacket(out.packet, {
          ip: { src: N, dst: W, ttl: 63 },
          tcp: { sport: moved, dport: 443, flags: 'PA' },
        });
        assert.equal(rig.nat(reverse(port))?.port, 5);
      });
    }
  });
}
