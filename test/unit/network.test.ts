import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  checkMasqueradeAddresses,
  egressAddress,
  findInterface,
  type NetworkState,
  nodeAddresses,
  parseAddresses,
  parseDefaultDevices,
  parseLinks,
  requireInterface,
  selectDevices,
} from '../../agent/engine/network.ts';
import { ConfigError } from '../../agent/lib/errors.ts';
import { formatAddress } from '../../agent/lib/ip.ts';

const LINKS = JSON.stringify([
  { ifindex: 1, ifname: 'lo', flags: ['LOOPBACK', 'UP'], link_type: 'loopback' },
  {
    ifindex: 4,
    ifname: 'eth0',
    altnames: ['enp1s0'],
    flags: ['BROADCAST', 'UP'],
    link_type: 'ether',
  },
  {},
  {
    ifindex: 7,
    link_index: 2,
    ifname: 'lxc-web',
    flags: ['UP'],
    link_netnsid: 0,
    link_type: 'ether',
    linkinfo: { info_kind: 'veth' },
  },
  {
    ifindex: 8,
    link: 'near-b',
    ifname: 'near-a',
    link_type: 'ether',
    linkinfo: { info_kind: 'veth' },
  },
  {
    ifindex: 9,
    ifname: 'tap0',
    link_type: 'ether',
    linkinfo: { info_kind: 'tun', info_data: { type: 'tap' } },
  },
  { ifindex: 10, ifname: 'ppp0', link_type: 'ppp', flags: ['POINTOPOINT', 'UP'] },
]);

const ADDRESSES = JSON.stringify([
  {
    ifindex: 1,
    ifname: 'lo',
    addr_info: [
      { family: 'inet', local: '127.0.0.1', prefixlen: 8, scope: 'host' },
      { family: 'inet6', local: '::1', prefixlen: 128, scope: 'host' },
    ],
  },
  {
    ifindex: 4,
    ifname: 'eth0',
    addr_info: [
      { family: 'inet', local: '192.0.2.2', prefixlen: 24, scope: 'global' },
      { family: 'inet', local: '192.0.2.9', prefixlen: 24, scope: 'global', secondary: true },
      { family: 'inet6', local: '2001:db8::aa', prefixlen: 64, scope: 'global', temporary: true },
      { family: 'inet6', local: '2001:db8::bb', prefixlen: 64, scope: 'global', deprecated: true },
      { family: 'inet6', local: '2001:db8::cc', prefixlen: 64, scope: 'global', tentative: true },
      { family: 'inet6', local: '2001:db8::2', prefixlen: 64, scope: 'global' },
      { family: 'inet6', local: 'fe80::2', prefixlen: 64, scope: 'link' },
    ],
  },
  {
    ifindex: 7,
    ifname: 'lxc-web',
    addr_info: [{ family: 'inet6', local: 'fe80::2', prefixlen: 64, scope: 'link' }],
  },
]);

const STATE: NetworkState = {
  interfaces: parseLinks(LINKS),
  addresses: parseAddresses(ADDRESSES),
  defaultDevices: ['eth0'],
};

const text = (bytes: Uint8Array | undefined) => bytes && formatAddress(bytes);

test('only a veth or netkit whose other end is in another namespace has a peer', () => {
  const peered = STATE.interfaces.filter((link) => link.hasPeer).map((link) => link.name);
  assert.deepEqual(peered, ['lxc-web']);
});

test('an interface is found by its alternative name too', () => {
  assert.equal(findInterface(STATE, 'enp1s0')?.ifindex, 4);
  assert.equal(findInterface(STATE, 'eth1'), undefined);
});

test('the default devices are those of unicast default routes, each once', () => {
  const ipv4 = JSON.stringify([
    { dst: 'default', gateway: '192.0.2.1', dev: 'eth0', flags: [] },
    { dst: 'default', nexthops: [{ gateway: '192.0.2.1', dev: 'eth0' }, { dev: 'eth1' }] },
  ]);
  const ipv6 = JSON.stringify([
    { type: 'unreachable', dst: 'default', dev: 'lo', metric: 4294967295 },
    { dst: 'default', gateway: 'fe80::1', dev: 'eth0', metric: 1024 },
  ]);
  assert.deepEqual(parseDefaultDevices(ipv4, ipv6), ['eth0', 'eth1']);
  assert.deepEqual(parseDefaultDevices('', '[]'), []);
});

test('configured devices win over the default routes', () => {
  assert.deepEqual(
    selectDevices(STATE, ['tap0']).map((link) => link.ifindex),
    [9],
  );
  assert.deepEqual(
    selectDevices(STATE, []).map((link) => link.ifindex),
    [4],
  );
});

test('a device whose frames are not Ethernet is refused, configured or found', () => {
  assert.throws(() => selectDevices(STATE, ['eth0', 'ppp0']), {
    code: 'E_CONFIG',
    message: 'node.devices: ppp0 is not Ethernet (its link type is ppp)',
  });
  assert.throws(() => selectDevices({ ...STATE, defaultDevices: ['ppp0'] }, []), {
    code: 'E_CONFIG',
    message:
      'node.devices: ppp0 is not Ethernet (its link type is ppp), and a default route leads there',
    hint: 'name the Ethernet interfaces to masquerade on',
  });
});

test('a missing interface is named together with those that exist', () => {
  assert.throws(() => requireInterface(STATE, 'eth7'), {
    code: 'E_NO_INTERFACE',
    message: 'there is no network interface "eth7"',
    hint: 'this network namespace has lo, eth0, lxc-web, near-a, tap0, ppp0',
  });
});

test('the egress address is the first one that may be told to others', () => {
  assert.equal(text(egressAddress(STATE, 4, 'ipv4', [])), '192.0.2.2');
  assert.equal(text(egressAddress(STATE, 4, 'ipv6', [])), '2001:db8::2');
  assert.equal(egressAddress(STATE, 7, 'ipv6', []), undefined);
  assert.equal(egressAddress(STATE, 7, 'ipv4', []), undefined);
});

test('a configured egress address holds for every device, per family', () => {
  const configured = ['192.0.2.9'];
  assert.equal(text(egressAddress(STATE, 7, 'ipv4', configured)), '192.0.2.9');
  assert.equal(text(egressAddress(STATE, 4, 'ipv6', configured)), '2001:db8::2');
  assert.equal(egressAddress(STATE, 4, 'ipv4', ['192.0.2.77']), undefined);
});

test('a masquerade address that the node does not have is a configuration error', () => {
  checkMasqueradeAddresses(STATE, ['192.0.2.9', '2001:db8::2']);
  assert.throws(() => checkMasqueradeAddresses(STATE, ['192.0.2.77']), ConfigError);
});

test('the node owns link-local and loopback addresses as well, each once', () => {
  assert.deepEqual(nodeAddresses(STATE, 'ipv4').map(formatAddress), [
    '127.0.0.1',
    '192.0.2.2',
    '192.0.2.9',
  ]);
  const ipv6 = nodeAddresses(STATE, 'ipv6').map(formatAddress);
  assert.equal(ipv6.filter((address) => address === 'fe80::2').length, 1);
  assert.ok(ipv6.includes('::1') && ipv6.includes('2001:db8::cc'));
});
