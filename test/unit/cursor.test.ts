import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCursor } from '../../agent/abi/cursor.ts';
import { type CtEntry, layouts, type NatEntry, type Tuple } from '../../agent/abi/generated.ts';
import type { Layout } from '../../agent/abi/layout.ts';

/* Bytes as the kernel writes them, by hand from bpf/abi.h. */
const IPV4_TUPLE = '0a00010a cb00712d 9c40 01bb 06 04 0000';
const IPV6_TUPLE =
  'fd000001000000000000000000000010 20010db8000000000000000000000001 0001 ffff 11 01 0000';
const CT_HEAD = '78563412 01000000 ffffffff 1304 1a 1b';
const IPV6_ADDRESS = '20010db8000000000000000000000005';
const IPV6_HOP = '20010db8000000000000000000000001';
const CT_TAIL = '9c40 07 02 0f00 0400 180c0000 13000000 29000000 05000000';
const CT_ACCOUNTS = '00f2052a01000000 ffffffffffffff7f';
const IPV4_CT = `${CT_HEAD} c0000205 c0000201 ${CT_TAIL} ${CT_ACCOUNTS}`;
const IPV6_CT = `${CT_HEAD} ${IPV6_ADDRESS} ${IPV6_HOP} ${CT_TAIL} ${CT_ACCOUNTS}`;
const NAT_TAIL = 'ffff 02 01 64000000 60000000 0200 0300';

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
}

/** The second struct of a buffer that begins in the middle of its memory. */
function second<Value>(layout: Layout<Value>, hex: string): Value {
  const struct = bytes(hex);
  assert.equal(struct.length, layout.size);
  const memory = new Uint8Array(3 * layout.size + 5).fill(0xee);
  memory.set(struct, 5 + layout.size);
  const cursor = createCursor(layout);
  cursor.enter(memory.subarray(5));
  cursor.moveTo(1);
  return { ...cursor.row };
}

test('a tuple is read as the kernel wrote it', () => {
  const ipv4: Tuple = {
    saddr: Uint8Array.of(10, 0, 1, 10),
    daddr: Uint8Array.of(203, 0, 113, 45),
    ...{ sport: 40_000, dport: 443, proto: 6, kind: 4 },
  };
  assert.deepEqual(second(layouts.ipv4.tuple, IPV4_TUPLE), ipv4);
  const ipv6 = second(layouts.ipv6.tuple, IPV6_TUPLE);
  assert.equal(Buffer.from(ipv6.saddr).toString('hex'), 'fd000001000000000000000000000010');
  assert.equal(Buffer.from(ipv6.daddr).toString('hex'), '20010db8000000000000000000000001');
  assert.deepEqual([ipv6.sport, ipv6.dport, ipv6.proto, ipv6.kind], [1, 65_535, 17, 1]);
});

test('a connection is read as the kernel wrote it', () => {
  const expected: Omit<CtEntry, 'nat_addr' | 'next_hop'> = {
    ...{ expires: 0x12345678, last_tx_report: 1, last_rx_report: 0xffffffff, flags: 0x0413 },
    ...{ tx_flags_seen: 0x1a, rx_flags_seen: 0x1b, nat_port: 40_000, seen: 7 },
    ...{ nat_class: 2, nat_looked: 4 },
    ...{ rev_nat_index: 15, src_identity: 3096, backend_id: 19, next_ifindex: 41, looked: 5 },
    ...{ packets: 5_000_000_000n, bytes: 2n ** 63n - 1n },
  };
  const ipv4 = second(layouts.ipv4.ct_entry, IPV4_CT);
  const addresses = {
    nat_addr: Uint8Array.of(192, 0, 2, 5),
    next_hop: Uint8Array.of(192, 0, 2, 1),
  };
  assert.deepEqual(ipv4, { ...expected, ...addresses });
  const { nat_addr, next_hop, ...ipv6 } = second(layouts.ipv6.ct_entry, IPV6_CT);
  assert.deepEqual(ipv6, expected);
  assert.equal(Buffer.from(nat_addr).toString('hex'), IPV6_ADDRESS);
  assert.equal(Buffer.from(next_hop).toString('hex'), IPV6_HOP);
});

test('a NAT entry is read as the kernel wrote it', () => {
  const expected: NatEntry = {
    addr: Uint8Array.of(192, 0, 2, 5),
    ...{ port: 65_535, class: 2, flags: 1, expires: 100, created: 96 },
    ...{ rev_nat_index: 2, touched: 3 },
  };
  assert.deepEqual(second(layouts.ipv4.nat_entry, `c0000205 ${NAT_TAIL}`), expected);
});

test('signed and wide fields keep their sign and their order', () => {
  const layout: Layout<Record<'a' | 'b' | 'c' | 'd' | 'e', unknown>> = {
    size: 24,
    fields: {
      a: { offset: 0, size: 1, kind: 's8' },
      b: { offset: 2, size: 2, kind: 's16' },
      c: { offset: 4, size: 4, kind: 's32' },
      d: { offset: 8, size: 8, kind: 's64' },
      e: { offset: 16, size: 4, kind: 'be32' },
    },
  };
  assert.deepEqual(second(layout, 'ff00feff fdffffff fcffffffffffffff 01020304 00000000'), {
    ...{ a: -1, b: -2, c: -3, d: -4n, e: 0x01020304 },
  });
});

test('a row follows its cursor, and never reads beyond the buffer', () => {
  const layout: Layout<{ word: number; addr: Uint8Array }> = {
    size: 8,
    fields: {
      word: { offset: 0, size: 4, kind: 'u32' },
      addr: { offset: 4, size: 4, kind: 'bytes' },
    },
  };
  const cursor = createCursor(layout);
  const { row } = cursor;
  cursor.enter(bytes('01000000 0a000001 02000000 0a000002'));
  assert.equal(row.word, 1);
  const { addr } = row;
  cursor.moveTo(1);
  assert.deepEqual([row.word, ...row.addr], [2, 10, 0, 0, 2]);
  assert.equal(row.addr, addr, 'one array serves every row');
  cursor.moveTo(2);
  assert.throws(() => row.word, RangeError);
});

test('an array of numbers is refused when the cursor is made, not when it is read', () => {
  assert.throws(() => createCursor(layouts.ipv4.node_state), /secret/);
});
