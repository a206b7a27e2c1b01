import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { buildPacket } from '../lib/packet.ts';
import type { FlowKey } from '../lib/tables.ts';
import { openRig, PEOPLE, type Rig, TIMEOUTS } from './rig.ts';

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, N, W } = PEOPLE[family];
  const syn = (sport: number, dport = 443) =>
    buildPacket({ ip: { src: A, dst: W }, tcp: { sport, dport, flags: 'S' } });
  const data = (sport: number) =>
    buildPacket({ ip: { src: A, dst: W }, tcp: { sport, dport: 443, flags: 'PA' } });
  const flow = (sport: number, dport = 443): FlowKey => ({
    ...{ src: A, dst: W, sport, dport, protocol: 6, kind: 0 },
  });
  const reverse = (port: number): FlowKey => ({
    ...{ src: W, dst: N, sport: 443, dport: port, protocol: 6, kind: 1 },
  });

  describe(`a range of 1,000 ports, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family, { portRange: [40000, 40999], tableSize: 16384 });
    });
    after(() => rig[Symbol.asyncDispose]());

    test('every port can be used, once each; the next flow is refused for a second', async () => {
      const used = new Set<number>();
      let refused = 0;
      for (let i = 0; i < 1000; i++) {
        if (rig.out(syn(1000 + i)).verdict === 'drop') refused += 1;
        else used.add(rig.nat(flow(1000 + i))?.port ?? 0);
      }
      assert.equal(refused, 0);
      assert.equal(used.size, 1000);
      assert.ok([...used].every((port) => port >= 40000 && port <= 40999));

      const entries = await rig.count('ct_tcp');
      const first = rig.out(syn(30000));
      assert.equal(first.counted['drop nat_no_port'], 1);
      assert.equal(first.counted['attempts 33'], 1);
      let second = rig.out(syn(30001));
      for (let i = 0; !second.counted['drop nat_full'] && i < 3; i++) second = rig.out(syn(30002));
      assert.deepEqual(second.counted, { 'drop nat_full': 1, 'verdict drop': 1 });
      assert.equal(await rig.count('ct_tcp'), entries, 'nothing stays behind for them');
    });

    test('a live flow with lost halves is never refused by it', () => {
      const port = rig.nat(flow(1500))?.port ?? 0;
      rig.remove('snat', flow(1500));
      rig.remove('snat', reverse(port));
      assert.equal(rig.out(data(1500)).verdict, 'pass');
      assert.equal(rig.nat(flow(1500))?.port, port);
    });

    test('a port found by the walk is found again, whatever was freed before it', async () => {
      await using other = await openRig(family, { portRange: [40000, 40099] });
      let walked = 0;
      for (let sport = 1000; sport < 1100; sport++) {
        if (other.out(syn(sport)).counted['attempts 32']) walked = sport;
      }
      const port = other.nat(flow(walked))?.port;
      assert.ok(port);
      const earlier = Array.from({ length: 50 }, (_, i) => flow(1000 + i));
      await other.reap('ct_tcp', earlier, 'forced');
      other.remove('snat', flow(walked));
      other.remove('ct_tcp', flow(walked));
      other.out(data(walked));
      assert.equal(other.nat(flow(walked))?.port, port);
    });

    test('another destination is not affected', () => {
      assert.equal(rig.out(syn(1000, 80)).verdict, 'pass');
    });

    test('an expired port is taken over in place, and a freed one clears the memory', async () => {
      const port = rig.nat(flow(1600))?.port ?? 0;
      const past = { expires: rig.now() - 1 };
      rig.patchCt(flow(1600), past);
      rig.patchNat(flow(1600), past);
      rig.patchNat(reverse(port), past);
      const { deleted } = await rig.reap('ct_tcp', [flow(1600)]);
      assert.equal(deleted, 1);
      assert.equal(rig.nat(reverse(port)), undefined);
      assert.equal(rig.out(syn(30003)).verdict, 'pass');
      assert.equal(rig.nat(flow(30003))?.port, port);

      const other = rig.nat(flow(1601))?.port ?? 0;
      rig.patchNat(reverse(other), past);
      let taken = rig.out(syn(30004));
      for (let i = 0; taken.verdict === 'drop' && i < 200_000; i++) taken = rig.out(syn(30004));
      assert.equal(rig.nat(flow(30004))?.port, other);
      assert.equal(taken.counted['created snat'], 1, 'only the forward half is a new entry');
    });
  });

  describe(`whose port it is, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());

    test('a port that a socket of the node listens on is never handed out', async () => {
      const server = createServer();
      const port = await new Promise<number>((resolve) => {
        server.listen({ port: 45678, host: N }, () => resolve(45678));
      });
      try {
        rig.out(syn(port));
        assert.notEqual(rig.nat(flow(port))?.port, port);
      } finally {
        server.close();
      }
    });

    for (const [lost, keys] of [
      ['reverse half', [reverse(45679)]],
      ['pair of halves', [flow(45679), reverse(45679)]],
    ] as const) {
      test(`nor is it when a flow lost its ${lost} and a socket took the port since`, async () => {
        await rig.clear();
        rig.out(syn(45679));
        rig.patchNat(flow(45679), { touched: (rig.now() - 5) & 0xffff });
        for (const key of keys) rig.remove('snat', key);
        const server = createServer();
        await new Promise<void>((resolve) => {
          server.listen({ port: 45679, host: N }, resolve);
        });
        try {
          rig.out(data(45679));
          const moved = rig.nat(flow(45679))?.port ?? 0;
          assert.notEqual(moved, 45679);
          assert.equal(rig.nat(reverse(45679)), undefined);
          assert.equal(rig.nat(reverse(moved))?.port, 45679);
          assert.equal(rig.ct(flow(45679))?.nat_port, moved);
        } finally {
          server.close();
        }
      });
    }

    test('a port that is another’s by now leaves the candidates to be searched for ours', async () => {
      const stranger = { port: 5, expires: rig.now() + 60 };
      rig.out(syn(1200));
      const first = rig.nat(flow(1200))?.port ?? 0;
      await rig.reap('ct_tcp', [flow(1200)], 'forced');
      rig.patchNat(reverse(first), stranger);
      rig.out(syn(1200));
      const port = rig.nat(flow(1200))?.port ?? 0;
      assert.notEqual(port, first);
      rig.remove('snat', reverse(first));
      rig.remove('snat', flow(1200));
      rig.patchNat(reverse(33333), stranger);
      rig.patchCt(flow(1200), { nat_port: 33333 });
      assert.equal(rig.out(data(1200)).counted['restored adopted'], 1);
      assert.equal(rig.nat(flow(1200))?.port, port);
    });

    test('SCTP keeps its port or is refused, since it cannot be rewritten', () => {
      const sctp = (sport: number) =>
        buildPacket({ ip: { src: A, dst: W }, sctp: { sport, dport: 443 } });
      const kept = rig.out(sctp(40000));
      assert.equal(kept.verdict, 'pass');
      assert.equal(rig.out(sctp(1000)).counted['drop nat_no_port'], 1);
    });

    test('an echo identifier may be any number', () => {
      const icmp = family === 'ipv4' ? 1 : 58;
      for (const id of [0, 1, 40000, 65535]) {
        const echo = { message: 'echo-request', id, sequence: 1 } as const;
        rig.out(buildPacket({ ip: { src: A, dst: W }, icmp: echo }));
        const key = { src: A, dst: W, sport: id, dport: 0, protocol: icmp, kind: 0 };
        assert.equal(rig.nat(key)?.port, id);
      }
    });

    test('without restore, a surviving reverse half blocks its own port', async () => {
      await using bare = await openRig(family, { restore: false });
      bare.out(syn(40000));
      bare.remove('snat', flow(40000));
      bare.out(data(40000));
      assert.notEqual(bare.nat(flow(40000))?.port, 40000);

      bare.out(syn(40001));
      const past = { expires: bare.now() };
      bare.patchCt(flow(40001), past);
      bare.patchNat(flow(40001), past);
      bare.patchNat(reverse(40001), past);
      bare.out(syn(40001));
      assert.equal(bare.nat(flow(40001))?.port, 40001, 'an expired one blocks nothing');
    });
  });

  describe(`the reaper, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());

    test('looks again before it deletes: what has been refreshed survives', async () => {
      rig.out(syn(40000));
      rig.out(syn(40001));
      rig.patchCt(flow(40000), { expires: rig.now() - 1 });
      rig.patchNat(flow(40000), { expires: rig.now() - 1 });
      const { deleted } = await rig.reap('ct_tcp', [flow(40000), flow(40001), flow(40002)]);
      assert.equal(deleted, 1);
      assert.equal(rig.ct(flow(40000)), undefined);
      assert.ok(rig.ct(flow(40001)));
      assert.equal(rig.nat(flow(40000)), undefined);
      assert.ok(rig.nat(reverse(40000)), 'a half that has not expired stays');
    });

    test('deletes live entries with their pair when it is told to', async () => {
      rig.out(syn(40005));
      await rig.reap('ct_tcp', [flow(40005)], 'forced');
      for (const left of [rig.ct(flow(40005)), rig.nat(flow(40005)), rig.nat(reverse(40005))]) {
        assert.equal(left, undefined);
      }
    });

    test('but not the half of a flow that has the port by now', async () => {
      rig.out(syn(40007));
      rig.remove('snat', flow(40007));
      rig.patchNat(reverse(40007), { port: 5 });
      await rig.reap('ct_tcp', [flow(40007)], 'forced');
      assert.equal(rig.ct(flow(40007)), undefined);
      assert.equal(rig.nat(reverse(40007))?.port, 5);
    });

    test('takes NAT entries by their own expiry', async () => {
      rig.out(syn(40006));
      rig.patchNat(reverse(40006), { expires: rig.now() });
      const { deleted } = await rig.reap('snat', [flow(40006), reverse(40006)]);
      assert.equal(deleted, 1);
      assert.ok(rig.nat(flow(40006)));
      assert.ok((rig.nat(flow(40006))?.expires ?? 0) - rig.now() <= TIMEOUTS.tcpSyn);
    });
  });
}
