import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import {
  backend_mask,
  backend_state,
  ct_flag,
  ct_seen,
  drop_reason,
  nat_flag,
  service_flag,
  service_scope,
} from '../../agent/abi/generated.ts';
import { assertPacket } from '../lib/assert-packet.ts';
import { buildPacket, type Packet } from '../lib/packet.ts';
import type { FlowKey } from '../lib/tables.ts';
import { openRig, PEOPLE, type Rig, type RunResult, TIMEOUTS } from './rig.ts';
import { serviceRows } from './service-rows.ts';

const [OUT, IN, SVC] = [0, 1, 4];
const WORLD = 2;
const ADDRESSES = {
  ipv4: { V: '10.96.0.10', LB: '198.51.100.17', L: '169.254.42.1' },
  ipv6: { V: 'fd00:96::10', LB: '2001:db8:99::17', L: 'fd73:656b:6973::1' },
} as const;
const { SERVICE_FROM_OUTSIDE: OUTSIDE, SERVICE_AFFINITY: STAYS } = service_flag;

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, B, N, R, W } = PEOPLE[family];
  const { V, LB, L } = ADDRESSES[family];
  const length = family === 'ipv4' ? 32 : 128;
  const icmp = family === 'ipv4' ? 1 : 58;

  const tcp = (src: string, sport: number, dst: string, dport: number, flags = 'S'): Packet => ({
    ip: { src, dst },
    tcp: { sport, dport, flags },
  });
  const udp = (src: string, sport: number, dst: string, dport: number): Packet => ({
    ip: { src, dst },
    udp: { sport, dport },
  });
  const key = (
    kind: number,
    src: string,
    sport: number,
    dst: string,
    dport: number,
    protocol = 6,
  ): FlowKey => ({ src, dst, sport, dport, protocol, kind });
  /** The packet as it is to come out: one hop further. */
  const hopped = (packet: Packet): Packet => ({ ...packet, ip: { ...packet.ip, ttl: 63 } });

  const withRig = (name: string, tests: (use: () => Use) => void, settings = {}) =>
    describe(`${name}, ${family}`, () => {
      let rig: Rig;
      let used: Use;
      before(async () => {
        rig = await openRig(family, settings);
        used = use(rig);
      });
      after(() => rig[Symbol.asyncDispose]());
      beforeEach(() => rig.clear());
      tests(() => used);
    });

  withRig('pod to ClusterIP', (use) => {
    test('a backend on the node gets the packet, and the answer comes from the frontend', () => {
      const { rig, rows, fromA, fromB } = use();
      rows.frontend({ address: V, port: 80, id: 7, index: 15 });
      rows.backend({ id: 19, address: B, port: 8080, service: 7 });
      rows.table(7, [19]);
      const first = fromA(tcp(A, 59530, V, 80));
      assert.equal(first.verdict, 'redirect');
      assert.deepEqual(first.counted, {
        'verdict deliver': 1,
        'created ct_tcp': 3,
        'created ct_any': 2,
      });
      assertPacket(first.packet, hopped(tcp(A, 59530, B, 8080)));
      const reply = fromB(tcp(B, 8080, A, 59530, 'SA'));
      assert.deepEqual(reply.counted, { 'verdict deliver': 1 });
      assertPacket(reply.packet, hopped(tcp(V, 80, A, 59530, 'SA')));
      fromA(tcp(A, 59530, V, 80, 'PA'));

      const svc = rig.ct(key(SVC, A, 59530, V, 80));
      assert.deepEqual(
        [svc?.backend_id, svc?.rev_nat_index, svc?.src_identity, svc?.flags, svc?.rx_flags_seen],
        [19, 15, 0, ct_flag.CT_SEEN_NON_SYN, 0],
      );
      assert.equal(svc?.tx_flags_seen, 0x1a);
      assert.ok(Math.abs((svc?.expires ?? 0) - rig.now() - TIMEOUTS.serviceTcp) <= 1);
      const out = rig.ct(key(OUT, A, 59530, B, 8080));
      assert.deepEqual(
        [out?.backend_id, out?.rev_nat_index, out?.src_identity, out?.seen],
        [0, 15, 3001, ct_seen.CT_SEEN_BOTH],
      );
      assert.equal(rig.ct(key(OUT | 2, A, 0, B, 0, icmp))?.rev_nat_index, 15);
      assert.equal(rig.ct(key(IN, A, 59530, B, 8080))?.rev_nat_index, 15);
      assert.equal(rig.ct(key(OUT, A, 59530, V, 80)), undefined);
      assert.deepEqual(
        [rows.counted(7, 'SERVICE_CONNECTIONS'), rows.counted(19, 'BACKEND_CONNECTIONS')],
        [1, 1],
      );
    });

    test('whichever record of it is lost comes back with the next packet of either side', () => {
      const { rig, fromA, fromB } = use();
      const records = [
        key(SVC, A, 59531, V, 80),
        key(OUT, A, 59531, B, 8080),
        key(IN, A, 59531, B, 8080),
      ];
      fromA(tcp(A, 59531, V, 80));
      fromB(tcp(B, 8080, A, 59531, 'SA'));
      for (const lost of records) {
        rig.remove('ct_tcp', lost);
        const request = fromA(tcp(A, 59531, V, 80, 'A'));
        assertPacket(request.packet, hopped(tcp(A, 59531, B, 8080, 'A')));
        assert.ok(rig.ct(lost));
        rig.remove('ct_tcp', lost);
        const reply = fromB(tcp(B, 8080, A, 59531, 'A'));
        assertPacket(reply.packet, hopped(tcp(V, 80, A, 59531, 'A')));
      }
    });

    test('an old entry that takes a connection in brings the other one back as well', () => {
      const { rig, fromA, fromB } = use();
      fromA(tcp(A, 59535, V, 80));
      fromB(tcp(B, 8080, A, 59535, 'SA'));
      const inward = key(IN, A, 59535, B, 8080);
      rig.patchCt(inward, { expires: rig.now() - 1 });
      fromA(tcp(A, 59535, V, 80, 'A'));
      assert.equal(rig.ct(inward)?.rev_nat_index, 15);
      rig.remove('ct_tcp', key(OUT, A, 59535, B, 8080));
      const { packet } = fromB(tcp(B, 8080, A, 59535, 'A'));
      assertPacket(packet, hopped(tcp(V, 80, A, 59535, 'A')));
    });

    test('with nothing left, the backend’s answer is dropped and the client’s packet repairs', () => {
      const { rig, fromA, fromB } = use();
      fromA(tcp(A, 59532, V, 80));
      fromB(tcp(B, 8080, A, 59532, 'SA'));
      rig.remove('ct_tcp', key(OUT, A, 59532, B, 8080));
      rig.remove('ct_tcp', key(IN, A, 59532, B, 8080));
      const dropped = fromB(tcp(B, 8080, A, 59532, 'A'));
      assert.deepEqual(dropped.counted, { 'drop service_state_lost': 1, 'verdict drop': 1 });
      fromA(tcp(A, 59532, V, 80, 'A'));
      const { packet } = fromB(tcp(B, 8080, A, 59532, 'A'));
      assertPacket(packet, hopped(tcp(V, 80, A, 59532, 'A')));
    });

    test('a flow to the pod itself is no service’s, and neither is its loss', () => {
      const { rig, fromA, fromB } = use();
      fromA(tcp(A, 59533, B, 8080));
      rig.remove('ct_tcp', key(OUT, A, 59533, B, 8080));
      const { packet } = fromB(tcp(B, 8080, A, 59533, 'SA'));
      assertPacket(packet, hopped(tcp(B, 8080, A, 59533, 'SA')));
    });

    test('a backend on another node answers over the network', () => {
      const { rig, rows, out } = use();
      rows.frontend({ address: V, port: 81, id: 8, index: 16 });
      rows.backend({ id: 20, address: R, port: 8080, service: 8 });
      rows.table(8, [20]);
      assertPacket(out(tcp(A, 40000, V, 81)).packet, hopped(tcp(A, 40000, R, 8080)));
      assert.equal(rig.ct(key(OUT, A, 40000, R, 8080))?.rev_nat_index, 16);
      const reply = rig.run('from_netdev', buildPacket(tcp(R, 8080, A, 40000, 'SA')));
      assertPacket(reply.packet, hopped(tcp(V, 81, A, 40000, 'SA')));
      rig.remove('ct_tcp', key(OUT, A, 40000, R, 8080));
      const lost = rig.run('from_netdev', buildPacket(tcp(R, 8080, A, 40000, 'A')));
      assert.deepEqual(lost.counted, { 'drop service_state_lost': 1, 'verdict drop': 1 });
      out(tcp(A, 40000, V, 81, 'A'));
      const back = rig.run('from_netdev', buildPacket(tcp(R, 8080, A, 40000, 'A')));
      assertPacket(back.packet, hopped(tcp(V, 81, A, 40000, 'A')));
    });

    test('a backend in the world sees the node, and its halves know the frontend', () => {
      const { rig, rows, out } = use();
      rows.frontend({ address: V, port: 82, id: 9, index: 17 });
      rows.backend({ id: 21, address: W, port: 9000, service: 9 });
      rows.table(9, [21]);
      assertPacket(out(tcp(A, 40001, V, 82)).packet, hopped(tcp(N, 40001, W, 9000)));
      assert.equal(rig.nat(key(OUT, A, 40001, W, 9000))?.rev_nat_index, 17);
      assert.equal(rig.nat(key(IN, W, 9000, N, 40001))?.rev_nat_index, 17);
      const answer = () => rig.run('from_netdev', buildPacket(tcp(W, 9000, N, 40001, 'SA')));
      assertPacket(answer().packet, hopped(tcp(V, 82, A, 40001, 'SA')));
      rig.remove('ct_tcp', key(OUT, A, 40001, W, 9000));
      assertPacket(answer().packet, hopped(tcp(V, 82, A, 40001, 'SA')));
      assert.equal(rig.ct(key(OUT, A, 40001, W, 9000))?.rev_nat_index, 17);
      rig.remove('ct_tcp', key(OUT, A, 40001, W, 9000));
      out(tcp(A, 40001, V, 82, 'A'));
      assert.equal(rig.ct(key(OUT, A, 40001, W, 9000))?.nat_port, 40001, 'its halves tell it');
    });

    test('a pod that is its own backend meets the loopback address', () => {
      const { rig, rows, fromA } = use();
      rows.frontend({ address: V, port: 83, id: 10, index: 18 });
      rows.backend({ id: 22, address: A, port: 8080, service: 10 });
      rows.table(10, [22]);
      const request = fromA(tcp(A, 40002, V, 83));
      assert.equal(request.counted['verdict deliver'], 1);
      assertPacket(request.packet, tcp(L, 40002, A, 8080));
      const entry = rig.ct(key(IN, L, 40002, A, 8080));
      assert.deepEqual([entry?.flags, entry?.rev_nat_index], [ct_flag.CT_LB_LOOPBACK, 18]);
      const reply = fromA(tcp(A, 8080, L, 40002, 'SA'));
      assert.deepEqual(reply.counted, { 'verdict deliver': 1 });
      assertPacket(reply.packet, tcp(V, 83, A, 40002, 'SA'));

      rig.remove('ct_tcp', key(IN, L, 40002, A, 8080));
      const lost = fromA(tcp(A, 8080, L, 40002, 'A'));
      assert.equal(lost.counted['drop service_state_lost'], 1);
      fromA(tcp(A, 40002, V, 83, 'A'));
      assertPacket(fromA(tcp(A, 8080, L, 40002, 'A')).packet, tcp(V, 83, A, 40002, 'A'));
      const datagram = fromA(udp(A, 8080, L, 1));
      assert.equal(datagram.counted['drop service_state_lost'], 1);
    });

    test('a service that is added later takes no live flow, but the next connection', () => {
      const { rig, rows, out } = use();
      out(tcp(A, 40003, W, 443));
      rig.run('from_netdev', buildPacket(tcp(W, 443, N, 40003, 'SA')));
      rows.frontend({ address: W, port: 443, id: 11, index: 19 });
      rows.backend({ id: 23, address: B, port: 8080, service: 11 });
      rows.table(11, [23]);
      assertPacket(out(tcp(A, 40003, W, 443, 'A')).packet, hopped(tcp(N, 40003, W, 443, 'A')));
      assertPacket(use().fromA(tcp(A, 40004, W, 443)).packet, hopped(tcp(A, 40004, B, 8080)));
      rows.removeFrontend({ address: W, port: 443 });
    });

    test('policies can give pods other backends than the network', () => {
      const { rows, fromA, world } = use();
      const scopes = OUTSIDE | service_flag.SERVICE_TWO_SCOPES;
      rows.frontend({ address: LB, port: 84, id: 12, index: 20, flags: scopes });
      const scope = service_scope.SERVICE_INTERNAL;
      rows.frontend({ address: LB, port: 84, id: 12, index: 20, flags: scopes, scope });
      rows.backend({ id: 24, address: A, port: 1, service: 12 });
      rows.backend({ id: 25, address: B, port: 2, service: 12 });
      rows.table(12, [24]);
      rows.table(12, [25], scope);
      assertPacket(fromA(tcp(A, 40005, LB, 84)).packet, hopped(tcp(A, 40005, B, 2)));
      assertPacket(world(tcp(W, 40005, LB, 84)).packet, hopped(tcp(W, 40005, A, 1)));
    });
  });

  withRig('world to node port, backend here', (use) => {
    const request = (sport: number, flags?: string) => tcp(W, sport, N, 30001, flags);
    const answered = (sport: number, flags: string) => {
      const { rig, fromA } = use();
      const first = fromA(tcp(A, 8080, W, sport, flags));
      assertPacket(first.packet, hopped(tcp(N, 30001, W, sport, flags)));
      const { verdict, counted, packet } = rig.run('to_netdev', first.packet, {
        cb: first.cb,
        ingressIfindex: rig.ifindex.a,
      });
      assert.deepEqual([verdict, counted], ['pass', { 'verdict pass': 1 }]);
      assert.deepEqual(packet, first.packet);
    };
    const rowsOf = () => {
      const { rows } = use();
      rows.frontend({ address: N, port: 30001, id: 7, index: 24 });
      rows.backend({ id: 24, address: A, port: 8080, service: 7 });
      rows.table(7, [24]);
    };
    const entries = (sport: number) =>
      [
        key(SVC, W, sport, N, 30001),
        key(OUT, W, sport, A, 8080),
        key(IN, W, sport, A, 8080),
      ] as const;

    test('the client’s address stays, and the answer leaves as the frontend', () => {
      rowsOf();
      const { rig, world } = use();
      const first = world(request(53438));
      assert.deepEqual(first.counted, {
        'verdict deliver': 1,
        'created ct_tcp': 3,
        'created ct_any': 1,
      });
      assertPacket(first.packet, hopped(tcp(W, 53438, A, 8080)));
      answered(53438, 'SA');
      world(request(53438, 'A'));
      answered(53438, 'FA');
      world(request(53438, 'FA'));
      const [svc, out, inward] = entries(53438).map((entry) => rig.ct(entry));
      assert.deepEqual([svc?.backend_id, svc?.rev_nat_index, svc?.flags], [24, 24, 0x13]);
      const closed = ct_flag.CT_NODE_PORT | 0x13;
      assert.deepEqual([out?.flags, out?.rev_nat_index, out?.src_identity], [closed, 24, WORLD]);
      assert.deepEqual([inward?.flags, inward?.rev_nat_index], [closed, 24]);
      assert.equal(out?.expires, inward?.expires);
    });

    test('one record brings the other back, whichever side speaks', () => {
      rowsOf();
      const { rig, world } = use();
      const [svc, out, inward] = entries(50000);
      world(request(50000));
      answered(50000, 'SA');
      world(request(50000, 'A'));
      rig.remove('ct_tcp', inward);
      answered(50000, 'A');
      assert.equal(rig.ct(inward)?.flags, ct_flag.CT_NODE_PORT | ct_flag.CT_SEEN_NON_SYN);
      for (const speak of [() => answered(50000, 'A'), () => world(request(50000, 'A'))]) {
        rig.remove('ct_tcp', out);
        rig.patchCt(inward, { looked: rig.now() - 1 });
        speak();
        assert.equal(rig.ct(out)?.rev_nat_index, 24);
      }
      for (const lost of [svc, out, inward]) rig.remove('ct_tcp', lost);
      world(request(50000, 'A'));
      assert.equal(rig.ct(svc)?.backend_id, 24);
      answered(50000, 'A');
    });

    test('an answer that no record knows is dropped, wherever it goes', () => {
      rowsOf();
      const { rig, world, fromA } = use();
      world(request(50001));
      for (const lost of entries(50001)) rig.remove('ct_tcp', lost);
      for (const flags of ['SA', 'A', 'FA', 'R']) {
        const { counted } = fromA(tcp(A, 8080, W, 50001, flags));
        assert.deepEqual(counted, { 'drop service_state_lost': 1, 'verdict drop': 1 });
      }
    });

    test('a datagram that nobody knew takes no answers once the client speaks again', () => {
      const { rig, rows, world, out, fromA } = use();
      rows.frontend({ address: N, port: 30001, id: 8, index: 26, protocol: 17 });
      rows.backend({ id: 26, address: A, port: 8080, service: 8, protocol: 17 });
      rows.table(8, [26]);
      world(udp(W, 50003, N, 30001));
      for (const kind of [SVC, OUT, IN]) {
        const [dst, dport] = kind === SVC ? ([N, 30001] as const) : ([A, 8080] as const);
        assert.ok(rig.remove('ct_any', key(kind, W, 50003, dst, dport, 17)));
      }
      out(udp(A, 8080, W, 50003));
      const stray = key(OUT, A, 8080, W, 50003, 17);
      assertPacket(
        out(udp(A, 8080, W, 50003)).packet,
        hopped(udp(N, rig.nat(stray)?.port ?? 0, W, 50003)),
      );
      world(udp(W, 50003, N, 30001));
      assertPacket(fromA(udp(A, 8080, W, 50003)).packet, hopped(udp(N, 30001, W, 50003)));
    });

    test('an answer whose frontend is gone is dropped', () => {
      rowsOf();
      const { rows, world, fromA } = use();
      world(request(50002));
      rows.removeIndex(24);
      const { counted } = fromA(tcp(A, 8080, W, 50002, 'SA'));
      assert.equal(counted['drop service_state_lost'], 1);
    });

    test('the pod’s own connections from other ports are masqueraded as before', () => {
      rowsOf();
      assertPacket(use().out(tcp(A, 40100, W, 80)).packet, hopped(tcp(N, 40100, W, 80)));
    });
  });

  withRig('world to load balancer address, backend elsewhere', (use) => {
    const records = (sport: number, nport: number) => ({
      svc: key(SVC, W, sport, LB, 80),
      out: key(OUT, W, sport, R, 8080),
      back: key(IN, R, 8080, N, nport),
    });
    const forward = (sport: number, flags?: string) => {
      const { rig, world } = use();
      const first = world(tcp(W, sport, LB, 80, flags));
      assert.equal(first.verdict, 'redirect');
      const second = rig.run('to_netdev', first.packet, {
        cb: first.cb,
        ingressIfindex: rig.ifindex.eth0,
      });
      assert.equal(second.verdict, 'pass');
      return second;
    };
    const backward = (sport: number, nport: number, flags: string) => {
      const { rig, world } = use();
      const first = world(tcp(R, 8080, N, nport, flags));
      assertPacket(first.packet, hopped(tcp(LB, 80, W, sport, flags)));
      const ingressIfindex = rig.ifindex.eth0;
      const second = rig.run('to_netdev', first.packet, { cb: first.cb, ingressIfindex });
      assert.deepEqual(second.counted, { 'verdict pass': 1 });
    };
    before(() => {
      const { rows } = use();
      rows.frontend({ address: LB, port: 80, id: 7, index: 24 });
      rows.backend({ id: 24, address: R, port: 8080, service: 7 });
      rows.table(7, [24]);
    });

    test('it leaves as the node, whatever is excluded, and the answer comes back here', () => {
      const { rig } = use();
      assertPacket(forward(30000).packet, {
        ...hopped(tcp(N, rig.nat(key(OUT, W, 30000, R, 8080))?.port ?? 0, R, 8080)),
      });
      const nport = rig.nat(key(OUT, W, 30000, R, 8080))?.port ?? 0;
      assert.ok(nport >= 32768);
      backward(30000, nport, 'SA');
      forward(30000, 'A');
      const { out, back } = records(30000, nport);
      const entry = rig.ct(out);
      assert.deepEqual(
        [entry?.flags, entry?.rev_nat_index, entry?.src_identity, entry?.nat_port],
        [ct_flag.CT_NODE_PORT | ct_flag.CT_SEEN_NON_SYN, 24, WORLD, nport],
      );
      for (const half of [rig.nat(out), rig.nat(back)]) {
        assert.deepEqual([half?.rev_nat_index, half?.flags], [24, nat_flag.NAT_NODE_PORT]);
      }
      assert.equal(rig.nat(back)?.port, 30000);
      assert.equal(rig.ct(key(OUT | 2, W, 0, R, 0, icmp)), undefined, 'no companion');
    });

    test('every record comes back from the others', () => {
      const { rig } = use();
      forward(30001);
      const nport = rig.nat(key(OUT, W, 30001, R, 8080))?.port ?? 0;
      const { svc, out, back } = records(30001, nport);
      backward(30001, nport, 'SA');
      forward(30001, 'A');
      const onward = () =>
        assertPacket(forward(30001, 'A').packet, hopped(tcp(N, nport, R, 8080, 'A')));
      rig.remove('ct_tcp', svc);
      onward();
      for (const speak of [onward, () => backward(30001, nport, 'A')]) {
        rig.remove('ct_tcp', out);
        speak();
        assert.deepEqual(
          [rig.ct(out)?.rev_nat_index, (rig.ct(out)?.flags ?? 0) & ct_flag.CT_NODE_PORT],
          [24, ct_flag.CT_NODE_PORT],
        );
        rig.remove('snat', out);
        rig.patchNat(back, { touched: 0 });
        speak();
        assert.equal(rig.nat(out)?.rev_nat_index, 24);
      }
      rig.remove('snat', back);
      rig.patchNat(out, { touched: 0 });
      onward();
      assert.equal(rig.nat(back)?.flags, nat_flag.NAT_NODE_PORT);
    });

    test('the second in which conntrack vouches for it translates at once', () => {
      const { rig, world } = use();
      forward(40001);
      for (;;) {
        forward(40001, 'A');
        const second = rig.now();
        const { packet } = world(tcp(W, 40001, LB, 80, 'A'));
        if (
          rig.now() !== second ||
          rig.ct(key(OUT, W, 40001, R, 8080))?.nat_looked !== (second & 0xffff)
        )
          continue;
        assertPacket(packet, hopped(tcp(N, 40001, R, 8080, 'A')));
        return;
      }
    });

    test('a client’s RST is believed no more than any from outside', () => {
      const { rig } = use();
      forward(30002);
      const nport = rig.nat(key(OUT, W, 30002, R, 8080))?.port ?? 0;
      backward(30002, nport, 'SA');
      forward(30002, 'A');
      forward(30002, 'R');
      const { out } = records(30002, nport);
      assert.ok((rig.ct(out)?.expires ?? 0) - rig.now() > TIMEOUTS.tcpClose);
      forward(30002, 'A');
      assert.ok((rig.ct(out)?.expires ?? 0) - rig.now() > TIMEOUTS.tcpSyn);
    });

    test('a port of a service is handed out to nobody', () => {
      const { rig, rows, out } = use();
      rows.frontend({ address: N, port: 40200, id: 8, index: 25 });
      out(tcp(A, 40200, W, 80));
      assert.notEqual(rig.nat(key(OUT, A, 40200, W, 80))?.port, 40200);
      rows.removeFrontend({ address: N, port: 40200 });
    });
  });

  withRig('who has a connection', (use) => {
    const F = { address: LB, port: 80, id: 7, index: 24 };
    const svc = (sport: number, protocol = 6) => key(SVC, W, sport, LB, 80, protocol);
    const chosen = (sport: number, flags?: string) => {
      use().world(tcp(W, sport, LB, 80, flags));
      return use().rig.ct(svc(sport))?.backend_id;
    };
    beforeEach(() => {
      const { rows } = use();
      rows.frontend(F);
      rows.backend({ id: 1, address: A, port: 8080, service: 7 });
      rows.backend({ id: 2, address: B, port: 8080, service: 7 });
      rows.table(7, [1, 2]);
    });

    test('the same packet finds the same backend when its entry is lost', () => {
      const { rig, rows } = use();
      for (const flags of [OUTSIDE, OUTSIDE | service_flag.SERVICE_RANDOM]) {
        rows.frontend({ ...F, flags });
        const found = new Set<number>();
        for (let sport = 41000; sport < 41040; sport++) {
          const id = chosen(sport) ?? 0;
          found.add(id);
          rig.remove('ct_tcp', svc(sport));
          assert.equal(chosen(sport, 'A'), id);
          rig.remove('ct_tcp', svc(sport));
        }
        assert.deepEqual([...found].sort(), [1, 2]);
      }
    });

    test('who goes keeps what it has, and a SYN moves on', () => {
      const { rows } = use();
      for (const state of [
        backend_state.BACKEND_TERMINATING,
        backend_state.BACKEND_QUARANTINED,
        backend_state.BACKEND_MAINTENANCE,
      ]) {
        rows.backend({ id: 1, address: A, port: 8080, service: 7 });
        rows.table(7, [1]);
        const sport = 42000 + state;
        chosen(sport);
        rows.backend({ id: 1, address: A, port: 8080, service: 7, state });
        rows.table(7, [2]);
        assert.equal(chosen(sport, 'A'), 1);
        assert.equal(chosen(sport, 'S'), 2);
      }
    });

    test('whom a policy keeps from the network is as one who goes, but for pods', () => {
      const { rig, rows, fromA } = use();
      const flags = OUTSIDE | STAYS | service_flag.SERVICE_TWO_SCOPES;
      const sticky = { ...F, flags, affinityTimeout: 100 };
      const scope = service_scope.SERVICE_INTERNAL;
      const chosenByPod = (sport: number) => {
        fromA(tcp(A, sport, LB, 80));
        return rig.ct(key(SVC, A, sport, LB, 80))?.backend_id;
      };
      const lead = (id: number) => {
        rows.table(7, [id]);
        rows.table(7, [id], scope);
      };
      rows.frontend(sticky);
      rows.frontend({ ...sticky, scope });
      lead(2);
      assert.deepEqual([chosen(42050), chosenByPod(42050)], [2, 2]);
      const state = backend_mask.BACKEND_NOT_EXTERNAL;
      rows.backend({ id: 2, address: B, port: 8080, service: 7, state });
      lead(1);
      assert.equal(chosen(42050, 'A'), 2);
      assert.deepEqual([chosen(42051), chosenByPod(42051)], [1, 2]);
      assert.equal(chosen(42050, 'S'), 1);
    });

    test('who is gone loses a connection to another backend, which ends it', () => {
      const { rows, world } = use();
      rows.table(7, [1]);
      chosen(42100);
      rows.removeBackend(1);
      rows.table(7, [2]);
      assertPacket(world(tcp(W, 42100, LB, 80, 'A')).packet, hopped(tcp(W, 42100, B, 8080, 'A')));
      assert.equal(use().rig.ct(svc(42100))?.backend_id, 2);
    });

    test('datagrams leave a backend that is gone at once', () => {
      const { rig, rows, world } = use();
      rows.frontend({ ...F, protocol: 17 });
      for (const [id, address] of [
        [3, A],
        [4, B],
      ] as const) {
        rows.backend({ id, address, port: 53, service: 7, protocol: 17 });
      }
      rows.table(7, [3]);
      world(udp(W, 42200, LB, 80));
      rows.removeBackend(3);
      rows.table(7, [4]);
      assertPacket(world(udp(W, 42200, LB, 80)).packet, hopped(udp(W, 42200, B, 53)));
      const entry = rig.ct(svc(42200, 17));
      assert.equal(entry?.backend_id, 4);
      assert.ok(Math.abs((entry?.expires ?? 0) - rig.now() - TIMEOUTS.serviceAny) <= 1);
      assertPacket(use().fromB(udp(B, 53, W, 42200)).packet, hopped(udp(LB, 80, W, 42200)));
    });

    test('an id that is another service’s by now is not believed, nor is another index', () => {
      const { rig, rows } = use();
      rows.table(7, [2]);
      rows.backend({ id: 9, address: A, port: 9, service: 8 });
      chosen(42300);
      rig.patchCt(svc(42300), { backend_id: 9 });
      assert.equal(chosen(42300, 'A'), 2);
      rig.patchCt(svc(42300), { backend_id: 1, rev_nat_index: 99 });
      assert.equal(chosen(42300, 'A'), 2);
      assert.equal(rig.ct(svc(42300))?.rev_nat_index, 24);
    });

    test('a reconnect within serviceClose keeps its backend; after it, it is chosen', () => {
      const { rig, rows } = use();
      rows.table(7, [1]);
      chosen(42400);
      chosen(42400, 'A');
      chosen(42400, 'FA');
      const closing = rig.ct(svc(42400));
      assert.equal((closing?.flags ?? 0) & 3, 3);
      assert.ok(Math.abs((closing?.expires ?? 0) - rig.now() - TIMEOUTS.serviceClose) <= 1);
      rows.table(7, [2]);
      assert.equal(chosen(42400), 1);
      assert.equal(rig.ct(svc(42400))?.flags, 0);
      assert.equal(rows.counted(1, 'BACKEND_CONNECTIONS') >= 2, true);
      rig.patchCt(svc(42400), { expires: rig.now() - 1 });
      assert.equal(chosen(42400), 2);
    });

    test('a forged RST costs a SVC entry nothing, once the client speaks', () => {
      const { rig } = use();
      chosen(42500);
      chosen(42500, 'A');
      chosen(42500, 'R');
      assert.ok((rig.ct(svc(42500))?.expires ?? 0) - rig.now() <= TIMEOUTS.serviceClose);
      chosen(42500, 'A');
      assert.ok((rig.ct(svc(42500))?.expires ?? 0) - rig.now() > TIMEOUTS.serviceClose);
      assert.equal(rig.ct(svc(42500))?.flags, ct_flag.CT_SEEN_NON_SYN);
    });

    test('a client stays where it was until the timeout, or until its backend leaves', () => {
      const { rig, rows } = use();
      const sticky = { ...F, flags: OUTSIDE | STAYS, affinityTimeout: 100 };
      rows.frontend(sticky);
      const first = chosen(43000) ?? 0;
      const other = 3 - first;
      rows.table(7, [other]);
      for (let sport = 43001; sport < 43010; sport++) assert.equal(chosen(sport), first);
      rows.ageAffinity(7, W, 101);
      assert.equal(chosen(43020), other);
      rows.table(7, [first]);
      assert.equal(chosen(43021), other);
      rows.removeBackend(other);
      assert.equal(chosen(43022), first);
      assert.ok(rig.ct(svc(43022)));
    });

    test('every client’s port goes to one backend under affinity', () => {
      const { rig, rows } = use();
      rows.frontend({ ...F, flags: OUTSIDE | STAYS, affinityTimeout: 100 });
      const found = new Set<number | undefined>();
      for (let sport = 43100; sport < 43120; sport++) {
        found.add(chosen(sport));
        rig.map('affinity').delete(rig.map('affinity').readAll()[0]?.[0] ?? new Uint8Array());
      }
      assert.equal(found.size, 1);
    });
  });

  withRig('who gets no service', (use) => {
    const dropped = (result: RunResult, reason: string) =>
      assert.deepEqual(result.counted, { [`drop ${reason}`]: 1, 'verdict drop': 1 });
    const anyPort = { address: LB, port: 0, protocol: 0, id: 7, index: 0 };

    test('service_unknown_port: an address whose service is on another port', () => {
      const { rows, world, fromA } = use();
      rows.frontend({ ...anyPort, flags: service_flag.SERVICE_ANY_PORT });
      dropped(world(tcp(W, 1000, LB, 81)), 'service_unknown_port');
      dropped(fromA(tcp(A, 1000, LB, 81)), 'service_unknown_port');
      const icmp = { message: 'echo-request', id: 1, sequence: 1 } as const;
      dropped(world({ ip: { src: W, dst: LB }, icmp }), 'service_unknown_port');
      const reason = drop_reason.DROP_SERVICE_UNKNOWN_PORT;
      assert.equal(rows.counted(7, 'SERVICE_DROPS', reason), 3);
    });

    test('fragment_unsupported: a datagram in pieces to a service', () => {
      const { rows, world } = use();
      rows.frontend({ ...anyPort, flags: service_flag.SERVICE_ANY_PORT });
      for (const offset of [0, 64]) {
        const ip = { src: W, dst: LB, fragment: { offset, length: 64, more: true } };
        const datagram = { ip, udp: { sport: 1000, dport: 80 }, payload: 'x'.repeat(300) };
        dropped(world(datagram), 'fragment_unsupported');
      }
    });

    test('an unknown port of the node is the node’s', () => {
      assert.deepEqual(use().world(tcp(W, 1000, N, 30099)).counted, { 'verdict pass': 1 });
    });

    test('service_not_external: the network asks for a cluster address', () => {
      const { rows, world } = use();
      rows.frontend({ address: V, port: 80, id: 8, index: 1, flags: 0 });
      dropped(world(tcp(W, 1000, V, 80)), 'service_not_external');
    });

    test('service_no_backend: nobody to be chosen', () => {
      const { rows, world, fromA } = use();
      rows.frontend({ address: LB, port: 82, id: 9, index: 2, backends: 0 });
      dropped(world(tcp(W, 1000, LB, 82)), 'service_no_backend');
      dropped(fromA(tcp(A, 1000, LB, 82)), 'service_no_backend');
      const reason = drop_reason.DROP_SERVICE_NO_BACKEND;
      assert.equal(rows.counted(9, 'SERVICE_DROPS', reason), 2);
    });

    test('service_source_range: a client outside, but no pod', () => {
      const { rows, world, fromA } = use();
      const flags = OUTSIDE | service_flag.SERVICE_SOURCE_RANGES;
      rows.frontend({ address: LB, port: 83, id: 10, index: 3, flags });
      rows.backend({ id: 1, address: B, port: 8080, service: 10 });
      rows.table(10, [1]);
      dropped(world(tcp(W, 1000, LB, 83)), 'service_source_range');
      assertPacket(fromA(tcp(A, 1001, LB, 83)).packet, hopped(tcp(A, 1001, B, 8080)));
      rows.admit(10, W, length);
      assertPacket(world(tcp(W, 1002, LB, 83)).packet, hopped(tcp(W, 1002, B, 8080)));
    });

    test('service_state_lost: the answer of a backend that nobody knows', () => {
      dropped(use().fromB(tcp(B, 8080, W, 1003, 'A')), 'service_state_lost');
    });

    test('spoofed_source: a client in the name of a pod or of the node', () => {
      const { rows, world } = use();
      rows.frontend({ address: LB, port: 84, id: 11, index: 4 });
      for (const src of [A, N]) dropped(world(tcp(src, 1, LB, 84)), 'spoofed_source');
    });
  });

  withRig(
    'services, routed by the stack',
    (use) => {
      test('a pod’s answer leaves as the frontend at the device', () => {
        const { rig, rows, world, fromA } = use();
        rows.frontend({ address: N, port: 30001, id: 7, index: 24 });
        rows.backend({ id: 24, address: A, port: 8080, service: 7 });
        rows.table(7, [24]);
        const first = world(tcp(W, 1000, N, 30001));
        assert.equal(first.verdict, 'pass');
        assertPacket(first.packet, tcp(W, 1000, A, 8080));
        const reply = fromA(tcp(A, 8080, W, 1000, 'SA'));
        assert.equal(reply.verdict, 'pass');
        assertPacket(reply.packet, tcp(A, 8080, W, 1000, 'SA'));
        const left = rig.run('to_netdev', reply.packet, { ingressIfindex: rig.ifindex.a });
        assertPacket(left.packet, tcp(N, 30001, W, 1000, 'SA'));
      });

      test('a pod gets the answer from the frontend at its own link', () => {
        const { rig, rows, fromA } = use();
        rows.frontend({ address: V, port: 80, id: 8, index: 25 });
        rows.backend({ id: 25, address: B, port: 8080, service: 8 });
        rows.table(8, [25]);
        const first = fromA(tcp(A, 1000, V, 80));
        assertPacket(first.packet, tcp(A, 1000, B, 8080));
        rig.run('to_endpoint', first.packet, { device: 'b', ingressIfindex: rig.ifindex.a });
        const reply = buildPacket(tcp(B, 8080, A, 1000, 'SA'));
        rig.run('from_endpoint', reply, { device: 'b' });
        const got = rig.run('to_endpoint', reply, { ingressIfindex: rig.ifindex.b });
        assertPacket(got.packet, tcp(V, 80, A, 1000, 'SA'));
      });

      test('the backend’s entry brings the client’s back', () => {
        const { rig, rows, fromA } = use();
        rows.frontend({ address: V, port: 81, id: 9, index: 27 });
        rows.backend({ id: 27, address: B, port: 8080, service: 9 });
        rows.table(9, [27]);
        const first = fromA(tcp(A, 1001, V, 81));
        rig.run('to_endpoint', first.packet, { device: 'b', ingressIfindex: rig.ifindex.a });
        rig.remove('ct_tcp', key(OUT, A, 1001, B, 8080));
        const reply = buildPacket(tcp(B, 8080, A, 1001, 'A'));
        rig.run('from_endpoint', reply, { device: 'b' });
        const got = rig.run('to_endpoint', reply, { ingressIfindex: rig.ifindex.b });
        assertPacket(got.packet, tcp(V, 81, A, 1001, 'A'));
      });
    },
    { fastRouting: false },
  );
}

interface Use {
  rig: Rig;
  rows: ReturnType<typeof serviceRows>;
  /** from_endpoint of a pod's link, from_netdev of the network. */
  fromA(packet: Packet): RunResult;
  fromB(packet: Packet): RunResult;
  world(packet: Packet): RunResult;
  /** from_endpoint of pod a, then to_netdev. */
  out(packet: Packet): RunResult;
}

function use(rig: Rig): Use {
  return {
    rig,
    rows: serviceRows(rig),
    fromA: (packet) => rig.run('from_endpoint', buildPacket(packet)),
    fromB: (packet) => rig.run('from_endpoint', buildPacket(packet), { device: 'b' }),
    world: (packet) => rig.run('from_netdev', buildPacket(packet)),
    out: (packet) => rig.out(buildPacket(packet)),
  };
}
