import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { service_flag } from '../../agent/abi/generated.ts';
import { type Dissection, dissect } from '../lib/dissect.ts';
import { buildPacket, NODE_MAC, type Packet, POD_MAC } from '../lib/packet.ts';
import { openRig, PEOPLE, type Rig } from './rig.ts';
import { addService } from './tunnel-rows.ts';

const VIPS = { ipv4: '198.51.100.10', ipv6: '2001:db8:9::10' };
const PORT = 80;
const RATE = 1000;
const OPTIONS = Uint8Array.from([2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7]);

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, W } = PEOPLE[family];
  const F = VIPS[family];
  const icmp = family === 'ipv4' ? { type: 3, code: 3 } : { type: 1, code: 4 };

  describe(`a packet to a service that has no backend, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
      for (const protocol of [6, 17, 132]) {
        const flags = service_flag.SERVICE_FROM_OUTSIDE;
        addService(rig, { address: F, port: PORT, protocol, flags, id: protocol });
      }
    });
    after(() => rig[Symbol.asyncDispose]());

    const syn = (src: string): Packet => ({
      ip: { src, dst: F },
      tcp: { sport: 4000, dport: PORT, flags: 'S', seq: 0x01020304, options: OPTIONS },
    });
    const datagram = (src: string, payload: string): Packet => ({
      ip: { src, dst: F },
      udp: { sport: 4000, dport: PORT },
      payload,
    });
    const told = (frame: Uint8Array, to: string) => {
      const error = dissect(frame);
      assert.deepEqual([ownSums(error), error.problems], [[], []]);
      assert.deepEqual([error.ip?.src, error.ip?.dst, error.ip?.ttl], [F, to, 64]);
      assert.deepEqual(
        [error.icmp?.type, error.icmp?.code, error.icmp?.mtu],
        [icmp.type, icmp.code, 0],
      );
      assert.deepEqual([error.eth?.src, error.eth?.dst], [NODE_MAC, POD_MAC]);
      assert.deepEqual([error.quote?.ip?.src, error.quote?.ip?.dst], [to, F]);
      return error.quote;
    };

    for (const [hook, from] of [
      ['from_netdev', W],
      ['from_endpoint', A],
    ] as const) {
      test(`${hook} turns a segment round into a port unreachable`, () => {
        const { verdict, packet, counted } = rig.run(hook, buildPacket(syn(from)));
        assert.equal(verdict, 'redirect');
        assert.equal(counted['drop service_no_backend'], 1);
        assert.equal(counted['verdict drop'], 1);
        const tcp = told(packet, from)?.tcp;
        assert.deepEqual([tcp?.sport, tcp?.dport, tcp?.seq], [4000, PORT, 0x01020304]);
      });

      test(`${hook} turns a datagram round, whatever its length`, () => {
        for (const payload of ['', 'x', 'xy', 'x'.repeat(1400)]) {
          const { packet } = rig.run(hook, buildPacket(datagram(from, payload)));
          const udp = told(packet, from)?.udp;
          assert.deepEqual([udp?.sport, udp?.length], [4000, 8 + payload.length]);
        }
      });
    }

    test('a super-packet becomes one error like any other', () => {
      const big = buildPacket({ ...syn(W), payload: 'x'.repeat(2800) });
      told(rig.run('from_netdev', big, { gsoSize: 1400 }).packet, W);
    });

    test('the sum holds for every quote, filled in by the device or not', () => {
      for (let seq = 0; seq < 200; seq++) {
        const tcp = { sport: 1024 + 7 * seq, dport: PORT, flags: 'S', seq: seq * 0x01234567 };
        const frame = buildPacket({ ip: { src: W, dst: F }, tcp: { ...tcp, seq: tcp.seq >>> 0 } });
        const { packet } = rig.run('from_netdev', frame);
        told(packet, W);
        told(filledIn(packet, 20, 16), W);
      }
    });

    test('a datagram without a checksum is quoted without one', { skip: family === 'ipv6' }, () => {
      const bare: Packet = { ip: { src: W, dst: F }, udp: { sport: 1, dport: PORT, checksum: 0 } };
      const { packet } = rig.run('from_netdev', buildPacket(bare));
      assert.equal(told(packet, W)?.udp?.checksum, 'none');
      assert.equal(Buffer.from(packet.subarray(-2)).readUInt16BE(), 0);
    });

    test('to_netdev and to_endpoint let it out unread', () => {
      const out = rig.run('from_netdev', buildPacket(syn(W)));
      const sent = rig.run('to_netdev', out.packet, { cb: out.cb });
      assert.deepEqual([sent.counted, sent.packet], [{ 'verdict pass': 1 }, out.packet]);
      const back = rig.run('from_endpoint', buildPacket(syn(A)));
      const given = rig.run('to_endpoint', back.packet, { cb: back.cb });
      assert.deepEqual([given.verdict, given.packet], ['pass', back.packet]);
      assert.deepEqual(given.cb, [0, 0, 0, 0, 0]);
    });

    test('a broadcast is not answered', () => {
      const eth = { dst: 'ff:ff:ff:ff:ff:ff' };
      const { verdict, counted } = rig.run('from_netdev', buildPacket({ ...syn(W), eth }));
      assert.equal(verdict, 'drop');
      assert.equal(counted['drop service_no_backend'], 1);
    });

    test('a flood is answered a thousand times a second, and dropped all the same', () => {
      const frame = buildPacket(syn(W));
      const bySecond = new Map<number, number>();
      for (let i = 0; i < 2 * RATE; i++) {
        const at = rig.now();
        const { verdict, counted } = rig.run('from_netdev', frame);
        assert.equal(counted['drop service_no_backend'], 1);
        if (rig.now() === at && verdict === 'redirect') {
          bySecond.set(at, (bySecond.get(at) ?? 0) + 1);
        }
      }
      for (const answered of bySecond.values()) assert.ok(answered <= RATE, `${answered}`);
    });
  });
}

/** What is wrong with sums; that of the quoted transport is not its own any more. */
function ownSums({ checksums }: Dissection): string[] {
  if (checksums === 'ok') return [];
  return checksums.filter((line) => !/^quoted (tcp|udp)/.test(line));
}

/** What a device makes of a packet whose last header of `size` bytes has its sum at `at` left to it. */
function filledIn(frame: Uint8Array, size: number, at: number): Uint8Array {
  const filled = frame.slice();
  const start = filled.length - size;
  let sum = 0;
  for (let i = start; i < filled.length; i += 2) {
    sum += ((filled[i] ?? 0) << 8) | (filled[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  const due = ~sum & 0xffff || 0xffff;
  filled.set([due >> 8, due & 255], start + at);
  return filled;
}
