import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertPacket, diffPackets } from '../lib/assert-packet.ts';
import { crc32c, internetChecksum } from '../lib/checksum.ts';
import { dissect } from '../lib/dissect.ts';
import { buildFragments, buildPacket, type Packet } from '../lib/packet.ts';

/** Frames that a Linux host sent with transmit offloads off, and how a test would write them. */
const eth = { dst: 'e2:15:36:79:a0:97', src: 'a2:cc:12:df:fc:aa' };
const back = { dst: eth.src, src: eth.dst };
const v4 = { src: '192.168.1.5', dst: '203.0.113.45', df: true };
const v6 = { src: 'fd00:192:168:1::5', dst: '2001:db8::2d' };

const datagram4: Packet = {
  eth,
  ip: { ...v4, id: 0xe095 },
  udp: { sport: 43287, dport: 999 },
  payload: 'hi!\n',
};
const datagram6: Packet = {
  eth,
  ip: { ...v6, flowLabel: 0xcd1b2 },
  udp: { sport: 55484, dport: 999 },
  payload: 'hi!\n',
};

const CAPTURED: { name: string; frame: string; packet: Packet }[] = [
  {
    name: 'an IPv4 echo request',
    frame: `e2153679a097a2cc12dffcaa08004500002593f040004001a90cc0a80105cb00712d0800a8783b760001
      000102030405060708`,
    packet: {
      eth,
      ip: { ...v4, id: 0x93f0 },
      icmp: { message: 'echo-request', id: 15222, sequence: 1 },
      payload: Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8),
    },
  },
  {
    name: 'an IPv4 UDP datagram',
    frame: `e2153679a097a2cc12dffcaa080045000020e095400040115c5cc0a80105cb00712da91703e7000ccb88
      6869210a`,
    packet: datagram4,
  },
  {
    name: 'an IPv4 port unreachable that quotes a datagram',
    frame: `a2cc12dffcaae2153679a097080045c0003c47c4000040013462cb00712dc0a801050303faf500000000
      45000020e095400040115c5cc0a80105cb00712da91703e7000ccb886869210a`,
    packet: {
      eth: back,
      ip: { src: v4.dst, dst: v4.src, tos: 0xc0, id: 0x47c4 },
      icmp: { message: 'port-unreachable', quote: datagram4 },
    },
  },
  {
    name: 'an IPv4 SYN with options',
    frame: `e2153679a097a2cc12dffcaa08004500003c0c3d4000400630a4c0a80105cb00712dc62003e7159054ee
      00000000a002faf08c9f0000020405b40402080a8aab0360000000000103030a`,
    packet: {
      eth,
      ip: { ...v4, id: 0x0c3d },
      tcp: {
        sport: 50720,
        dport: 999,
        flags: 'S',
        seq: 361780462,
        window: 64240,
        options: Buffer.from('020405b40402080a8aab0360000000000103030a', 'hex'),
      },
    },
  },
  {
    name: 'an IPv4 reset',
    frame: `a2cc12dffcaae2153679a0970800450000280000400040063cf5cb00712dc0a8010503e7c62000000000
      159054ef501400007d6e0000`,
    packet: {
      eth: back,
      ip: { src: v4.dst, dst: v4.src, df: true },
      tcp: { sport: 999, dport: 50720, flags: 'RA', seq: 0, ack: 361780463, window: 0 },
    },
  },
  {
    name: 'an IPv6 echo request',
    frame: `e2153679a097a2cc12dffcaa86dd600feb1b00113a40fd000192016800010000000000000005
      20010db800000000000000000000002d800002453b770001000102030405060708`,
    packet: {
      eth,
      ip: { ...v6, flowLabel: 0xfeb1b },
      icmp: { message: 'echo-request', id: 15223, sequence: 1 },
      payload: Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8),
    },
  },
  {
    name: 'an IPv6 port unreachable that quotes a datagram',
    frame: `a2cc12dffcaae2153679a09786dd600b6588003c3a4020010db800000000000000000000002d
      fd00019201680001000000000000000501048db000000000600cd1b2000c1140fd0001920168000100000000
      0000000520010db800000000000000000000002dd8bc03e7000c6bd86869210a`,
    packet: {
      eth: back,
      ip: { src: v6.dst, dst: v6.src, flowLabel: 0xb6588 },
      icmp: { message: 'port-unreachable', quote: datagram6 },
    },
  },
  {
    name: 'an IPv6 SYN with options',
    frame: `e2153679a097a2cc12dffcaa86dd60035ac400280640fd000192016800010000000000000005
      20010db800000000000000000000002dc95e03e7e7d75bd100000000a002fd20569e0000
      020405a00402080a5b9e59de000000000103030a`,
    packet: {
      eth,
      ip: { ...v6, flowLabel: 0x35ac4 },
      tcp: {
        sport: 51550,
        dport: 999,
        flags: 'S',
        seq: 3889650641,
        window: 64800,
        options: Buffer.from('020405a00402080a5b9e59de000000000103030a', 'hex'),
      },
    },
  },
];

const bytes = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));

test('the checksum of the example in RFC 1071 is 220d', () => {
  assert.equal(internetChecksum(bytes('0001f203f4f5f6f7')), 0x220d);
});

test('an odd last byte counts as the upper half of a word', () => {
  assert.equal(internetChecksum(bytes('01')), 0xfeff);
});

test('CRC32c gives the check values of its catalogue and of RFC 3720', () => {
  assert.equal(crc32c(new TextEncoder().encode('123456789')), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
});

for (const { name, frame, packet } of CAPTURED) {
  test(`the builder writes ${name} as Linux does`, () => {
    assert.equal(Buffer.from(buildPacket(packet)).toString('hex'), frame.replace(/\s/g, ''));
  });

  test(`the dissector finds nothing wrong with ${name} of Linux`, () => {
    const { checksums, problems } = dissect(bytes(frame));
    assert.deepEqual({ checksums, problems }, { checksums: 'ok', problems: [] });
  });

  test(`the dissector notices any changed bit behind the Ethernet header of ${name}`, () => {
    const right = bytes(frame);
    for (let at = 14; at < right.length; at++) {
      const changed = Uint8Array.from(right);
      changed[at] = (changed[at] ?? 0) ^ 1;
      assert.notEqual(diffPackets(changed, right).length + wrongSums(changed), 0, `byte ${at}`);
    }
  });
}

function wrongSums(frame: Uint8Array): number {
  const { checksums } = dissect(frame);
  return checksums === 'ok' ? 0 : checksums.length;
}

test('the dissector reads the fields that the builder wrote', () => {
  const frame = buildPacket({ ...datagram4, ip: { ...datagram4.ip, ttl: 7, tos: 4 } });
  const { ip, udp, payload } = dissect(frame);
  assert.deepEqual(udp, { sport: 43287, dport: 999, length: 12 });
  assert.equal(payload, '6869210a');
  assert.deepEqual([ip?.src, ip?.dst, ip?.ttl, ip?.tos], ['192.168.1.5', '203.0.113.45', 7, 4]);
});

test('a wrong transport checksum is named', () => {
  const frame = buildPacket({ ...datagram6, udp: { sport: 1, dport: 2, checksum: 0x1234 } });
  assert.match(String(dissect(frame).checksums), /^udp: sums to/);
});

test('a zero UDP checksum is none in IPv4 and wrong in IPv6', () => {
  const none = { sport: 1, dport: 2, checksum: 0 };
  const four = dissect(buildPacket({ ...datagram4, udp: none }));
  assert.deepEqual([four.checksums, four.udp?.checksum], ['ok', 'none']);
  assert.notEqual(dissect(buildPacket({ ...datagram6, udp: none })).checksums, 'ok');
});

test('extension headers are walked to the transport', () => {
  const extensions = [{ type: 0 }, { type: 60, body: Uint8Array.of(1, 12, ...Array(12).fill(0)) }];
  const result = dissect(buildPacket({ ...datagram6, ip: { ...v6, extensions } }));
  assert.deepEqual([result.ip?.extensions, result.ip?.protocol], ['0,60', 17]);
  assert.deepEqual([result.checksums, result.problems], ['ok', []]);
});

for (const packet of [datagram4, datagram6]) {
  test(`fragments carry the datagram in order (${packet.ip.src})`, () => {
    const payload = 'x'.repeat(100);
    const pieces = buildFragments({ ...packet, payload }, 48).map((frame) => dissect(frame));
    assert.deepEqual(
      pieces.map(({ ip }) => [ip?.offset, ip?.more]),
      [
        [0, true],
        [48, true],
        [96, false],
      ],
    );
    assert.equal(pieces[0]?.udp?.sport, packet.udp?.sport);
    assert.deepEqual(pieces[2]?.raw, { protocol: 17 });
    assert.ok(pieces.every(({ checksums }) => checksums === 'ok'));
  });
}

test('SCTP carries its own checksum', () => {
  const packet: Packet = { ip: v6, sctp: { sport: 5, dport: 6, tag: 9 }, payload: 'abcd' };
  assert.equal(dissect(buildPacket(packet)).checksums, 'ok');
  const wrong = buildPacket({ ...packet, sctp: { sport: 5, dport: 6, checksum: 1 } });
  assert.match(String(dissect(wrong).checksums), /^sctp: 0x1/);
});

test('a packet that ends early is described, not thrown', () => {
  for (let length = 0; length < 42; length++) {
    const frame = buildPacket({ ...datagram4, truncate: length });
    assert.notEqual(dissect(frame).problems.length, 0, `${length} bytes`);
  }
});

test('a failed comparison names the fields that differ', () => {
  const frame = buildPacket(datagram4);
  const expected = { ...datagram4, ip: { ...datagram4.ip, src: '10.0.1.10', ttl: 63 } };
  assert.throws(() => assertPacket(frame, expected), {
    message: [
      'the packet is not the expected one:',
      '  ip.src         192.168.1.5, expected 10.0.1.10',
      '  ip.ttl         64, expected 63',
    ].join('\n'),
  });
  assertPacket(frame, expected, { ignore: ['ip.src', 'ip.ttl'] });
});

test('a comparison fails on a wrong checksum even where it was asked for', () => {
  const packet: Packet = { ...datagram4, udp: { sport: 1, dport: 2, checksum: 1 } };
  assert.throws(() => assertPacket(buildPacket(packet), packet), /checksum udp/);
});
