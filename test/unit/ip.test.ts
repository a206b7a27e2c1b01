import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SekishoError } from '../../agent/lib/errors.ts';
import {
  formatAddress,
  formatEndpoint,
  formatPrefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from '../../agent/lib/ip.ts';

test('an IPv4 address parses to four bytes in network order', () => {
  assert.deepEqual(parseAddress('10.0.1.255'), {
    family: 'ipv4',
    bytes: Uint8Array.of(10, 0, 1, 255),
  });
});

test('IPv6 addresses print as RFC 5952 asks', () => {
  const canonical = [
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:0DB8::0001', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['fe80::', 'fe80::'],
    ['2001:db8::0:1:0', '2001:db8::1:0'],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['0:0:0:1::', '0:0:0:1::'],
  ] as const;
  for (const [text, expected] of canonical) {
    assert.equal(formatAddress(parseAddress(text).bytes), expected);
  }
});

test('what is no address is refused with its code', () => {
  for (const text of ['', '10.0.1', '010.0.0.1', '10.0.0.256', 'fe80::1%eth0', '1::2::3', 'web']) {
    assert.throws(
      () => parseAddress(text),
      (error) => error instanceof SekishoError && error.code === 'E_BAD_ADDRESS',
    );
  }
});

test('a prefix clears its host bits, and a bare address is a full-length prefix', () => {
  assert.equal(formatPrefix(parsePrefix('10.1.2.3/12')), '10.0.0.0/12');
  assert.equal(formatPrefix(parsePrefix('10.1.2.3')), '10.1.2.3/32');
  assert.equal(formatPrefix(parsePrefix('fd00:1::ffff/64')), 'fd00:1::/64');
  assert.equal(formatPrefix(parsePrefix('0.0.0.0/0')), '0.0.0.0/0');
  for (const text of ['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/-1', 'fd00::/129']) {
    assert.throws(() => parsePrefix(text), { code: 'E_BAD_ADDRESS' });
  }
});

test('a prefix contains exactly the addresses that share its bits', () => {
  const inside = (prefix: string, address: string) =>
    prefixContains(parsePrefix(prefix), parseAddress(address).bytes);
  assert.ok(inside('10.0.0.0/9', '10.127.255.255'));
  assert.ok(!inside('10.0.0.0/9', '10.128.0.0'));
  assert.ok(inside('0.0.0.0/0', '255.255.255.255'));
  assert.ok(inside('10.0.0.1/32', '10.0.0.1'));
  assert.ok(!inside('10.0.0.1/32', '10.0.0.0'));
  assert.ok(inside('fd00::/7', 'fc00::1'));
  assert.ok(!inside('::/0', '10.0.0.1'));
});

test('an endpoint brackets IPv6 only', () => {
  assert.equal(formatEndpoint(Uint8Array.of(10, 0, 0, 1), 80), '10.0.0.1:80');
  assert.equal(formatEndpoint(parseAddress('fd00::1').bytes, 80), '[fd00::1]:80');
});
