import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, afterEach, before, describe, test } from 'node:test';
import { assertPacket } from '../lib/assert-packet.ts';
import { buildPacket, type Packet } from '../lib/packet.ts';
import { openRig, PEOPLE, type Rig, type RunResult } from './rig.ts';

const OTHER_ADDRESS = { ipv4: '192.168.1.99', ipv6: 'fd00:192:168:1::99' } as const;

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, N, W } = PEOPLE[family];
  const version = family === 'ipv4' ? '-4' : '-6';
  const unroute = (verb: 'add' | 'del') =>
    execFileSync('ip', [version, 'route', verb, 'blackhole', W], { stdio: 'pipe' });

  describe(`the second that conntrack vouches for, ${family}`, () => {
    let rig: Rig;
    let sport = 41_000;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());
    afterEach(() => rig.setEgressAddress(N));

    const datagram = (payload = 'x'): Packet => ({
      ip: { src: A, dst: W },
      udp: { sport, dport: 53 },
      payload,
    });
    const send = (payload?: string) => rig.run('from_endpoint', buildPacket(datagram(payload)));

    /** What `meanwhile` answers in the very second in which a flow's halves were looked at. */
    const afterALook = <T>(meanwhile: () => T): T => {
      for (;;) {
        rig.setEgressAddress(N);
        sport += 1;
        rig.out(buildPacket(datagram()));
        rig.out(buildPacket(datagram()));
        const second = rig.now();
        const answer = meanwhile();
        if (rig.now() === second) return answer;
      }
    };

    test('from_endpoint translates, and to_netdev lets the packet pass unread', () => {
      const [first, unread] = afterALook((): [RunResult, RunResult] => {
        const sent = send();
        const nonsense = new Uint8Array(sent.packet.length).fill(8);
        nonsense.set(sent.packet.subarray(0, 14));
        const ingressIfindex = rig.ifindex.a;
        return [sent, rig.run('to_netdev', nonsense, { cb: sent.cb, ingressIfindex })];
      });
      assert.deepEqual(first.counted, { 'verdict forward': 1 });
      assertPacket(first.packet, { ...datagram(), ip: { src: N, dst: W, ttl: 63 } });
      assert.deepEqual([unread.verdict, unread.cb[0]], ['pass', 0]);
      assert.deepEqual(unread.counted, { 'verdict pass': 1 });
    });

    test('an address that leaves the device counts at once', () => {
      const { packet } = afterALook(() => {
        rig.setEgressAddress(OTHER_ADDRESS[family]);
        return rig.out(buildPacket(datagram()));
      });
      assert.equal(
        rig.nat({ src: A, dst: W, sport, dport: 53, protocol: 17, kind: 0 })?.port,
        sport,
      );
      assertPacket(packet, { ...datagram(), ip: { src: OTHER_ADDRESS[family], dst: W, ttl: 63 } });
    });

    test('a route that changes counts at once for a long packet, and at the next look', () => {
      const verdicts = afterALook(() => {
        unroute('add');
        const both = [send('short'), send('long'.repeat(330))];
        unroute('del');
        return both.map(({ verdict }) => verdict);
      });
      assert.deepEqual(verdicts, ['redirect', 'pass']);
      unroute('add');
      rig.patchCt(
        { src: A, dst: W, sport, dport: 53, protocol: 17, kind: 0 },
        { nat_looked: (rig.now() - 1) & 0xffff },
      );
      const { verdict } = send('short');
      unroute('del');
      assert.equal(verdict, 'pass');
    });
  });
}
