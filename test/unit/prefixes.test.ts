import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type PrefixSources, prefixRows, tunnelPeers } from '../../agent/engine/prefixes.ts';
import { type Family, formatPrefix } from '../../agent/lib/ip.ts';

const NO_MASQUERADE = 1;
const LOCAL_PODS = 2;

function rows(family: Family, sources: Partial<PrefixSources>): [string, number][] {
  const all = { exclude: [], podCIDRs: [], nodes: [], ...sources };
  return prefixRows(family, all).map((row) => [formatPrefix(row.prefix), row.flags]);
}

test('excluded destinations, pods and other nodes each get their row, in their family', () => {
  const sources = {
    exclude: ['172.16.0.0/12', 'fd00::/8'],
    podCIDRs: ['10.0.1.0/24'],
    nodes: [{ address: '192.168.1.6', podCIDRs: ['10.0.2.0/24', '2001:db8:2::/64'] }],
  };
  assert.deepEqual(rows('ipv4', sources), [
    ['172.16.0.0/12', NO_MASQUERADE],
    ['10.0.2.0/24', NO_MASQUERADE],
    ['10.0.1.0/24', LOCAL_PODS],
    ['192.168.1.6/32', NO_MASQUERADE],
  ]);
  assert.deepEqual(rows('ipv6', sources), [
    ['fd00::/8', NO_MASQUERADE],
    ['2001:db8:2::/64', NO_MASQUERADE],
  ]);
});

test('a row inherits the flags of the prefixes around it', () => {
  const sources = { exclude: ['10.0.0.0/8'], podCIDRs: ['10.0.1.0/24'] };
  assert.deepEqual(rows('ipv4', sources), [
    ['10.0.0.0/8', NO_MASQUERADE],
    ['10.0.1.0/24', NO_MASQUERADE | LOCAL_PODS],
  ]);
});

test('a neighbour inherits nothing', () => {
  const sources = { exclude: ['10.0.0.0/24'], podCIDRs: ['10.0.1.0/24'] };
  assert.deepEqual(
    rows('ipv4', sources).map(([, flags]) => flags),
    [NO_MASQUERADE, LOCAL_PODS],
  );
});

test('the same prefix written twice is one row with both flags', () => {
  const sources = { exclude: ['10.0.1.7/24'], podCIDRs: ['10.0.1.0/24'] };
  assert.deepEqual(rows('ipv4', sources), [['10.0.1.0/24', NO_MASQUERADE | LOCAL_PODS]]);
});

test('the default prefix is around everything', () => {
  const sources = { exclude: ['0.0.0.0/0', '::/0'], podCIDRs: ['10.0.1.0/24', 'fd00:1::/64'] };
  assert.deepEqual(
    rows('ipv4', sources).map(([, flags]) => flags),
    [NO_MASQUERADE, NO_MASQUERADE | LOCAL_PODS],
  );
  assert.deepEqual(
    rows('ipv6', sources).map(([, flags]) => flags),
    [NO_MASQUERADE, NO_MASQUERADE | LOCAL_PODS],
  );
});

test('a pod of another node is tunnelled to its node, also under a narrower prefix', () => {
  const sources = {
    exclude: ['10.0.2.128/25', '10.0.0.0/8'],
    podCIDRs: ['10.0.2.64/26'],
    nodes: [{ address: '192.168.1.6', podCIDRs: ['10.0.2.0/24', 'fd00:2::/64'] }],
  };
  const tunnels = (family: Family) =>
    prefixRows(family, sources).map((row) => [formatPrefix(row.prefix), row.tunnel]);
  const nodeB = 0xc0a8_0106;
  assert.deepEqual(tunnels('ipv4'), [
    ['10.0.0.0/8', 0],
    ['10.0.2.0/24', nodeB],
    ['10.0.2.128/25', nodeB],
    ['10.0.2.64/26', 0],
    ['192.168.1.6/32', nodeB],
  ]);
  assert.deepEqual(tunnels('ipv6'), [['fd00:2::/64', nodeB]]);
  assert.deepEqual(tunnelPeers(sources), [Uint8Array.of(192, 168, 1, 6)]);
});

test('a node without an IPv4 address is no end of a tunnel', () => {
  const nodes = [{ address: '2001:db8::6', podCIDRs: ['10.0.2.0/24'] }];
  const sources = { exclude: [], podCIDRs: [], nodes };
  assert.deepEqual(
    prefixRows('ipv4', sources).map(({ tunnel }) => tunnel),
    [0],
  );
  assert.deepEqual(tunnelPeers(sources), []);
});
