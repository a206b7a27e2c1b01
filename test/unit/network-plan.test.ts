import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Interface, NetworkState } from '../../agent/engine/network.ts';
import { makePlan, type PlanInput } from '../../agent/engine/plan.ts';
import { diffRows } from '../../agent/engine/rows.ts';
import { formatAddress, parseAddress } from '../../agent/lib/ip.ts';

const HOST = 1;
const PEER = 2;

function link(ifindex: number, name: string, extra: Partial<Interface> = {}): Interface {
  const plain = { altNames: [], loopback: false, linkType: 'ether', hasPeer: false, mtu: 1500 };
  return { ifindex, name, ...plain, ...extra };
}

const ETH0 = link(4, 'eth0');
const WG0 = link(9, 'wg0', { linkType: 'none' });
const NETWORK: NetworkState = {
  interfaces: [
    link(1, 'lo', { loopback: true, linkType: 'loopback' }),
    ETH0,
    link(7, 'lxc-web', { hasPeer: true }),
    WG0,
  ],
  addresses: [
    { ifindex: 4, egress: true, ...parseAddress('192.0.2.2') },
    { ifindex: 4, egress: false, ...parseAddress('fe80::2') },
  ],
  defaultDevices: ['eth0'],
};

const WEB = { name: 'web-1', interface: 'lxc-web', addresses: ['10.0.1.10', 'fd00:1::10'], id: 3 };

function plan(overrides: Partial<PlanInput> = {}) {
  return makePlan({
    network: NETWORK,
    devices: [ETH0],
    wanted: [],
    endpoints: [WEB],
    prefixes: { exclude: [], podCIDRs: [], nodes: [] },
    egress: [],
    ports: { min: 32768, max: 65535 },
    ...overrides,
  });
}

test('a device leaves as its address, and has a row without one too', () => {
  const { rows, problems } = plan();
  assert.deepEqual(rows.ipv4.devices, [
    {
      ifindex: 4,
      addr: Uint8Array.of(192, 0, 2, 2),
      port_min: 32768,
      port_max: 65535,
      flags: 1,
      tunnel_addr: 0xc000_0202,
    },
  ]);
  assert.deepEqual(rows.ipv6.devices, [
    {
      ifindex: 4,
      addr: new Uint8Array(16),
      port_min: 32768,
      port_max: 65535,
      flags: 0,
      tunnel_addr: 0xc000_0202,
    },
  ]);
  assert.deepEqual(problems, []);
});

test('a device that is not there is named, and so is a node without any', () => {
  assert.deepEqual(plan({ wanted: ['eth0', 'eth1'] }).problems, ['device eth1 is not there']);
  assert.deepEqual(plan({ devices: [], endpoints: [] }).problems, [
    'without a north-south device nothing is masqueraded',
  ]);
});

test('a device that is not Ethernet is named, configured or not', () => {
  assert.deepEqual(plan({ wanted: ['eth0', 'wg0'] }).problems, [
    'device wg0 is not Ethernet (its link type is none)',
  ]);
  const network = { ...NETWORK, defaultDevices: ['eth0', 'wg0'] };
  const problem = 'device wg0 of a default route is not Ethernet (its link type is none)';
  assert.deepEqual(plan({ network }).problems, [problem]);
  assert.deepEqual(plan({ network, wanted: ['eth0'] }).problems, []);
});

test('endpoints stand beside the addresses of the node', () => {
  const { rows } = plan();
  const text = rows.ipv4.endpoints.map(({ addr, endpoint }) => [
    formatAddress(addr),
    endpoint.ifindex,
    endpoint.id,
    endpoint.flags,
    endpoint.mtu,
  ]);
  assert.deepEqual(text, [
    ['192.0.2.2', 0, 0, HOST, 0],
    ['10.0.1.10', 7, 3, PEER, 1500],
  ]);
  assert.equal(rows.ipv6.endpoints.length, 2);
});

test('an endpoint whose interface is missing or unfit is left out and named', () => {
  for (const [name, reason] of [
    ['lxc-gone', 'is not there'],
    ['eth0', 'is a north-south device'],
    ['lo', 'is the loopback interface'],
    ['wg0', 'is not Ethernet (its link type is none)'],
  ]) {
    const { endpoints, problems } = plan({ endpoints: [{ ...WEB, interface: name ?? '' }] });
    assert.deepEqual(endpoints, []);
    assert.deepEqual(problems, [`endpoint web-1: interface ${name} ${reason}`]);
  }
});

test('an address of the node never becomes an endpoint', () => {
  const { rows, problems } = plan({ endpoints: [{ ...WEB, addresses: ['192.0.2.2'] }] });
  assert.equal(rows.ipv4.endpoints.length, 1);
  assert.equal(rows.ipv4.endpoints[0]?.endpoint.flags, HOST);
  assert.deepEqual(problems, ['endpoint web-1: 192.0.2.2 belongs to the node']);
});

test('a device without any usable address is named', () => {
  const { problems } = plan({ network: { ...NETWORK, addresses: [] } });
  assert.deepEqual(problems, ['device eth0 has no usable address']);
});

test('rows that are there already are not written again', () => {
  const row = (key: string, content: string) => ({ key, content });
  const actual = [row('a', '1'), row('b', '2'), row('c', '3')];
  const desired = [row('a', '1'), row('b', '5'), row('d', '4')];
  const changes = diffRows(
    desired,
    actual,
    ({ key }) => key,
    ({ content }) => content,
  );
  assert.deepEqual(changes.set, [row('b', '5'), row('d', '4')]);
  assert.deepEqual(changes.remove, [row('c', '3')]);
});
