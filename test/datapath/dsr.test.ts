import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ct_flag, service_flag } from '../../agent/abi/generated.ts';
import { assertPacket } from '../lib/assert-packet.ts';
import { dissect } from '../lib/dissect.ts';
import { buildTunnelled, readTunnelled, type Tunnelled } from '../lib/geneve.ts';
import { buildPacket, type Packet } from '../lib/packet.ts';
import { type FlowKey, KIND } from '../lib/tables.ts';
import { openRig, PEOPLE, type Rig } from './rig.ts';
import { addNode, addService, OTHER, OWN, STRANGER } from './tunnel-rows.ts';

const SVC = 4;
const VIPS = { ipv4: '198.51.100.10', ipv6: '2001:db8:9::10' };
const PORT = 80;
const SERVED = 8000;
const WORLD = 2;
const ID = 7;
/** Outer IPv4, UDP, Geneve, its option, inner Ethernet. */
const OVERHEAD = { ipv4: 62, ipv6: 74 };

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, B, R, W } = PEOPLE[family];
  const F = VIPS[family];
  const headers = family === 'ipv4' ? 40 : 60;

  const client = (sport: number, flags: string, payload = '', to = F): Packet => ({
    ip: { src: W, dst: to },
    tcp: { sport, dport: to === F ? PORT : SERVED, flags },
    payload,
  });
  const datagram = (sport: number, payload: string, to = F): Packet => ({
    ip: { src: W, dst: to },
    udp: { sport, dport: to === F ? PORT : SERVED },
    payload,
  });
  const answer = (dport: number, flags: string, payload = ''): Packet => ({
    ip: { src: A, dst: W },
    tcp: { sport: SERVED, dport, flags },
    payload,
  });
  const flow = (sport: number, kind: number, protocol = 6): FlowKey => ({
    ...{ src: W, dst: A, sport, dport: SERVED, protocol, kind },
  });

  describe(`a client's packet for a backend elsewhere, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
      addNode(rig, R);
      const flags = service_flag.SERVICE_FROM_OUTSIDE | service_flag.SERVICE_DSR;
      for (const protocol of [6, 17]) {
        const backend = { address: R, port: SERVED };
        addService(rig, { address: F, port: PORT, protocol, flags, backend, id: ID + protocol });
      }
    });
    after(() => rig[Symbol.asyncDispose]());

    test('goes to its node in a tunnel that says for which frontend', async () => {
      await rig.clear();
      const { verdict, packet, counted } = rig.run('from_netdev', buildPacket(client(4000, 'S')));
      assert.equal(verdict, 'redirect');
      assert.deepEqual(counted, { 'verdict forward': 1, 'created ct_tcp': 1 });
      const { outer, inner, option, ...geneve } = readTunnelled(packet);
      assert.deepEqual([outer.checksums, outer.problems], ['ok', []]);
      const { src, dst, df, ttl } = outer.ip ?? {};
      assert.deepEqual({ src, dst, df, ttl }, { src: OWN, dst: OTHER, df: true, ttl: 64 });
      assert.equal(outer.udp?.checksum, 'none');
      assert.ok(Number(outer.udp?.sport) >= 49152);
      assert.deepEqual(geneve, { version: 0, flags: 0x40, protocol: 0x6558, vni: WORLD });
      const length = family === 'ipv4' ? 2 : 5;
      assert.deepEqual(option, { class: 0x014b, type: 0x81, length, address: F, port: PORT });
      assertPacket(inner, client(4000, 'S', '', R));
    });

    test('leaves one SVC entry here, and nothing else', async () => {
      await rig.clear();
      for (const flags of ['S', 'A', 'PA']) {
        rig.run('from_netdev', buildPacket(client(4001, flags)));
      }
      const counts = [await rig.count('ct_tcp'), await rig.count('ct_any')];
      assert.deepEqual([...counts, await rig.count('snat')], [1, 0, 0]);
      const key = { src: W, dst: F, sport: 4001, dport: PORT, protocol: 6, kind: SVC };
      assert.equal(rig.ct(key)?.backend_id, ID + 6);
    });

    test('says so with every packet, datagrams too', () => {
      for (const packet of [client(4002, 'PA', 'more'), datagram(4002, 'one')]) {
        const out = rig.run('from_netdev', buildPacket(packet));
        const { option, inner } = readTunnelled(out.packet);
        assert.deepEqual([option.address, option.port], [F, PORT]);
        assert.equal(dissect(inner).checksums, 'ok');
      }
    });

    test('keeps one way: packets of one flow have one outer port, flows differ', () => {
      const port = (packet: Packet) =>
        readTunnelled(rig.run('from_netdev', buildPacket(packet)).packet).outer.udp?.sport;
      assert.equal(port(client(4003, 'S')), port(client(4003, 'PA', 'x')));
      const ports = new Set(Array.from({ length: 20 }, (_, i) => port(client(4100 + i, 'S'))));
      assert.ok(ports.size > 10, `${ports.size} ports for 20 flows`);
    });

    test('shows its traffic class outside', () => {
      const marked: Packet = { ...client(4004, 'A'), ip: { src: W, dst: F, tos: 0xba } };
      const { outer } = readTunnelled(rig.run('from_netdev', buildPacket(marked)).packet);
      assert.equal(outer.ip?.tos, 0xba);
    });

    test('does not count the tunnel as a hop', () => {
      const { inner } = readTunnelled(
        rig.run('from_netdev', buildPacket(client(4005, 'A'))).packet,
      );
      assert.equal(dissect(inner).ip?.ttl, 64);
    });

    test('is let out by to_netdev unread', () => {
      const { packet, cb } = rig.run('from_netdev', buildPacket(client(4006, 'S')));
      const out = rig.run('to_netdev', packet, { cb });
      if (family === 'ipv4') assert.deepEqual(out.counted, { 'verdict pass': 1 });
      assert.deepEqual(out.packet, packet);
    });

    test('that just fits is sent on, and a byte more is told what fits', () => {
      const mtu = 1500 - OVERHEAD[family];
      const most = mtu - headers;
      const fits = rig.run('from_netdev', buildPacket(client(4007, 'PA', 'x'.repeat(most))));
      assert.equal(fits.counted['verdict forward'], 1);
      const sent = client(4007, 'PA', 'x'.repeat(most + 1));
      const { verdict, packet, counted } = rig.run('from_netdev', buildPacket(sent));
      assert.equal(verdict, 'redirect');
      assert.deepEqual(counted, { 'verdict drop': 1, 'drop too_big': 1 });
      const told = dissect(packet);
      assert.deepEqual([told.checksums, told.problems], ['ok', []]);
      assert.deepEqual([told.ip?.src, told.ip?.dst, told.icmp?.mtu], [F, W, mtu]);
      assert.deepEqual([told.quote?.ip?.src, told.quote?.ip?.dst], [W, F]);
      assert.deepEqual([told.quote?.tcp?.sport, told.quote?.tcp?.dport], [4007, PORT]);
    });
  });

  describe(`a packet out of a tunnel, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
      addNode(rig, R);
      const backend = { address: A, port: SERVED };
      for (const protocol of [6, 17]) {
        addService(rig, { address: F, port: PORT, protocol, flags: 0, backend, id: ID + protocol });
      }
    });
    after(() => rig[Symbol.asyncDispose]());

    const tunnelled = (inner: Packet, other: Partial<Tunnelled> = {}) =>
      rig.run(
        'from_netdev',
        buildTunnelled({
          ...{ from: OTHER, to: OWN, frontend: { address: F, port: PORT }, inner },
          ...other,
        }),
      );
    const arrives = (sport: number, flags: string, payload = '') =>
      tunnelled(client(sport, flags, payload, A));
    const handshake = (sport: number) => {
      arrives(sport, 'S');
      rig.run('from_endpoint', buildPacket(answer(sport, 'SA')));
      arrives(sport, 'A');
    };
    const leavesAsFrontend = (sport: number) => {
      const out = rig.run('from_endpoint', buildPacket(answer(sport, 'PA', 'data')));
      assert.equal(out.verdict, 'redirect');
      assertPacket(out.packet, {
        ip: { src: F, dst: W, ttl: 63 },
        tcp: { sport: PORT, dport: sport, flags: 'PA' },
        payload: 'data',
      });
      return out;
    };

    test('reaches its pod, and both entries know its frontend', async () => {
      await rig.clear();
      const { verdict, packet, counted, cb } = arrives(5000, 'S');
      assert.equal(verdict, 'redirect');
      assert.deepEqual(counted, { 'verdict deliver': 1, 'created ct_tcp': 2, 'created ct_any': 1 });
      assert.deepEqual(cb, [0, 0, 0, 0, 0]);
      assertPacket(packet, { ...client(5000, 'S', '', A), ip: { src: W, dst: A, ttl: 63 } });
      for (const [kind, flag] of [
        [KIND.IN, ct_flag.CT_FROM_TUNNEL],
        [KIND.OUT, ct_flag.CT_DSR_INTERNAL],
      ] as const) {
        const entry = rig.ct(flow(5000, kind));
        assert.equal(entry?.flags, flag);
        assert.deepEqual([entry?.nat_port, entry?.src_identity], [PORT, WORLD]);
        assert.equal(entry?.rev_nat_index, 0);
      }
    });

    test('is answered by the pod as the frontend, straight to the client', () => {
      handshake(5001);
      const { cb, packet } = leavesAsFrontend(5001);
      const out = rig.run('to_netdev', packet, { cb, ingressIfindex: rig.ifindex.a });
      assert.deepEqual(out.counted, { 'verdict pass': 1 });
      assert.deepEqual(out.packet, packet);
    });

    test('leaves what the published trace shows after a connection has ended', () => {
      handshake(5002);
      arrives(5002, 'FA');
      rig.run('from_endpoint', buildPacket(answer(5002, 'FA')));
      arrives(5002, 'A');
      assert.equal(rig.ct(flow(5002, KIND.OUT))?.flags, 0x0093);
      assert.equal(rig.ct(flow(5002, KIND.IN))?.flags, 0x0413);
    });

    for (const [name, options] of [
      ['in its place', [2, 4, 5, 180]],
      ['at an odd offset', [1, 2, 4, 5, 180, 1, 1, 0]],
      ['behind others', [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1, 2, 4, 5, 180]],
    ] as const) {
      test(`is promised what fits the tunnel: MSS ${name}`, () => {
        const promise = Uint8Array.from(options);
        const reply = answer(5003, 'SA');
        arrives(5003, 'S');
        const out = rig.run(
          'from_endpoint',
          buildPacket({
            ...reply,
            tcp: { sport: SERVED, dport: 5003, flags: 'SA', options: promise },
          }),
        );
        const at = promise.indexOf(180) - 1;
        const due = Uint8Array.from(promise);
        const mss = 1500 - OVERHEAD[family] - headers;
        due.set([mss >> 8, mss & 255], at);
        assertPacket(out.packet, {
          ip: { src: F, dst: W, ttl: 63 },
          tcp: { sport: PORT, dport: 5003, flags: 'SA', options: due },
        });
      });
    }

    test('leaves a smaller promise, and one without, as they are', () => {
      for (const options of [[2, 4, 2, 24], [1, 1, 1, 1], []]) {
        arrives(5004, 'S');
        const given = Uint8Array.from(options);
        const tcp = { sport: SERVED, dport: 5004, flags: 'SA', options: given };
        const out = rig.run('from_endpoint', buildPacket({ ip: { src: A, dst: W }, tcp }));
        assertPacket(out.packet, { ip: { src: F, dst: W, ttl: 63 }, tcp: { ...tcp, sport: PORT } });
      }
    });

    test('whose IN is lost is answered with what OUT knows', () => {
      handshake(5005);
      rig.remove('ct_tcp', flow(5005, KIND.IN));
      leavesAsFrontend(5005);
      assert.ok((rig.ct(flow(5005, KIND.IN))?.flags ?? 0) & ct_flag.CT_FROM_TUNNEL);
    });

    test('whose OUT is lost gets it back with the next packet, whoever sends it', () => {
      handshake(5006);
      for (const speak of [() => leavesAsFrontend(5006), () => arrives(5006, 'PA', 'x')]) {
        rig.remove('ct_tcp', flow(5006, KIND.OUT));
        rig.patchCt(flow(5006, KIND.IN), { looked: rig.now() - 1 });
        speak();
        assert.equal(rig.ct(flow(5006, KIND.OUT))?.nat_port, PORT);
      }
    });

    test('whose both are lost: the pod waits for the client, who brings them back', () => {
      handshake(5007);
      for (const kind of [KIND.IN, KIND.OUT]) rig.remove('ct_tcp', flow(5007, kind));
      const early = rig.run('from_endpoint', buildPacket(answer(5007, 'PA', 'data')));
      assert.deepEqual(early.counted, { 'verdict drop': 1, 'drop service_state_lost': 1 });
      arrives(5007, 'PA', 'more');
      leavesAsFrontend(5007);
      assert.equal(rig.ct(flow(5007, KIND.OUT))?.nat_port, PORT);
    });

    test("of a datagram flow that the pod went on with alone is the frontend's again", () => {
      const back: Packet = { ip: { src: A, dst: W }, udp: { sport: SERVED, dport: 5008 } };
      rig.out(buildPacket(back));
      tunnelled(datagram(5008, 'more', A));
      const out = rig.run('from_endpoint', buildPacket(back));
      assertPacket(out.packet, {
        ip: { src: F, dst: W, ttl: 63 },
        udp: { sport: PORT, dport: 5008 },
      });
    });

    test('that opens by another frontend is answered as that one', () => {
      handshake(5009);
      const other = { address: VIPS[family].replace(/10$/, '11'), port: 81 };
      tunnelled(client(5009, 'PA', '', A), { frontend: other });
      assert.equal(rig.ct(flow(5009, KIND.IN))?.nat_port, PORT, 'only what opens says anew');
      tunnelled(client(5009, 'S', '', A), { frontend: other });
      const out = rig.run('from_endpoint', buildPacket(answer(5009, 'SA')));
      assert.deepEqual(dissect(out.packet).ip?.src, other.address);
      assert.deepEqual(dissect(out.packet).tcp?.sport, 81);
    });

    test('and one that came to this node itself: the last that opened is answered', () => {
      const here = VIPS[family].replace(/10$/, '12');
      const backend = { address: A, port: SERVED };
      const flags = service_flag.SERVICE_FROM_OUTSIDE;
      addService(rig, { address: here, port: PORT, protocol: 6, flags, backend, id: 99 });
      const open = {
        [here]: () =>
          rig.run('from_netdev', buildPacket({ ...client(5016, 'S'), ip: { src: W, dst: here } })),
        [F]: () => arrives(5016, 'S'),
      };
      for (const frontend of [F, here, F]) {
        open[frontend]?.();
        for (const lost of [undefined, KIND.IN]) {
          if (lost !== undefined) rig.remove('ct_tcp', flow(5016, lost));
          const out = rig.run('from_endpoint', buildPacket(answer(5016, 'A')));
          assert.equal(dissect(out.packet).ip?.src, frontend);
        }
      }
    });

    test('from a stranger is not unwrapped', () => {
      const { verdict, counted } = tunnelled(client(5010, 'S', '', A), { from: STRANGER });
      assert.equal(verdict, 'drop');
      assert.deepEqual(counted, { 'verdict drop': 1, 'drop tunnel_source': 1 });
      assert.equal(rig.ct(flow(5010, KIND.IN)), undefined);
    });

    const foreign: [string, Partial<Tunnelled>][] = [
      ['to another address', { to: '192.168.1.99' }],
      ['to another port', { dport: 6082 }],
      ['with another option', { optionClass: 0x0102 }],
      ['with another type of option', { optionType: 0x82 }],
      ['without an option', { optionBytes: new Uint8Array() }],
      ['with an option of another length', { optionBytes: Uint8Array.from(Array(16).fill(1)) }],
      ['of another version', { version: 1 }],
      ['of control', { flags: 0xc0 }],
      ['with something else than Ethernet in it', { protocol: 0x0800 }],
      ['in pieces', { fragment: { offset: 0, more: true } }],
    ];
    for (const [name, other] of foreign) {
      test(`of another kind, ${name}, goes on to whom it is for`, () => {
        const { verdict } = tunnelled(client(5011, 'S', '', A), other);
        assert.equal(verdict, 'pass');
        assert.equal(rig.ct(flow(5011, KIND.IN)), undefined);
      });
    }

    test('of the other family is left to the other programs', () => {
      const [src, dst] =
        family === 'ipv4' ? ['fd00::1', 'fd00:1::10'] : ['203.0.113.1', '10.0.1.10'];
      const { verdict } = tunnelled({ ip: { src, dst }, tcp: { sport: 1, dport: 2, flags: 'S' } });
      assert.equal(verdict, 'pass');
    });

    test('with nothing in it that a pod could be given is dropped', () => {
      const echo: Packet = { ip: { src: W, dst: A }, icmp: { message: 'echo-request', id: 1 } };
      const short: Packet = { ...client(5012, 'S', '', A), truncate: 14 + headers - 8 };
      const portless = { frontend: { address: F, port: 0 } };
      for (const [inner, other] of [
        [echo, {}],
        [short, {}],
        [client(5012, 'S', '', A), portless],
      ] as const) {
        assert.equal(tunnelled(inner, other).counted['drop tunnel_malformed'], 1);
      }
    });

    test('for a pod that is not here is dropped', () => {
      const { counted } = tunnelled(client(5013, 'S', '', R));
      assert.deepEqual(counted, { 'verdict drop': 1, 'drop tunnel_no_node': 1 });
    });

    test('in the name of a pod of this node is dropped', () => {
      const forged: Packet = { ...client(5014, 'S', '', A), ip: { src: B, dst: A } };
      assert.equal(tunnelled(forged).counted['drop spoofed_source'], 1);
    });

    /** RFC 6040, 4.2: by what is inside, then what the tunnel met; -1: dropped. */
    const congestion = [
      [0, 0, 0],
      [0, 3, -1],
      [2, 1, 1],
      [2, 3, 3],
      [1, 3, 3],
      [1, 2, 1],
      [3, 0, 3],
    ] as const;
    test('tells of congestion that the tunnel met', () => {
      for (const [inside, outside, due] of congestion) {
        const inner: Packet = {
          ...client(5015, 'A', '', A),
          ip: { src: W, dst: A, tos: 0xb8 | inside },
        };
        const { packet, counted } = tunnelled(inner, { tos: outside });
        if (due === -1) assert.equal(counted['drop tunnel_malformed'], 1);
        else assertPacket(packet, { ...inner, ip: { src: W, dst: A, ttl: 63, tos: 0xb8 | due } });
      }
    });
  });

  test(`without a node, or a way there, a client's packet is dropped (${family})`, async () => {
    await using rig = await openRig(family);
    const flags = service_flag.SERVICE_FROM_OUTSIDE | service_flag.SERVICE_DSR;
    const backend = { address: R, port: SERVED };
    addService(rig, { address: F, port: PORT, protocol: 6, flags, backend, id: ID });
    const { counted } = rig.run('from_netdev', buildPacket(client(4000, 'S')));
    assert.equal(counted['drop tunnel_no_node'], 1);
  });

  test(`what the stack routes is delivered and answered the same (${family})`, async () => {
    await using rig = await openRig(family, { fastRouting: false });
    addNode(rig, R);
    const inner = client(6000, 'S', '', A);
    const frontend = { address: F, port: PORT };
    const frame = buildTunnelled({ from: OTHER, to: OWN, frontend, inner });
    const arrived = rig.run('from_netdev', frame);
    assert.equal(arrived.verdict, 'pass');
    assertPacket(arrived.packet, inner);
    const sent = rig.run('from_endpoint', buildPacket(answer(6000, 'SA')));
    assert.equal(sent.verdict, 'pass');
    const out = rig.run('to_netdev', sent.packet, { ingressIfindex: rig.ifindex.a });
    assertPacket(out.packet, {
      ip: { src: F, dst: W },
      tcp: { sport: PORT, dport: 6000, flags: 'SA' },
    });
  });
}
