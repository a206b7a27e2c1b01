import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serviceFacts } from '../../agent/daemon/service-facts.ts';
import type { Interface, NetworkState } from '../../agent/engine/network.ts';
import type { Plan } from '../../agent/engine/plan.ts';
import { formatAddress, parseAddress } from '../../agent/lib/ip.ts';
import { taken } from '../../agent/services/facts.ts';

const ETH0: Interface = {
  ...{ ifindex: 2, name: 'eth0', altNames: [], loopback: false },
  ...{ linkType: 'ether', mtu: 1500, hasPeer: false },
};
const LO: Interface = { ...ETH0, ifindex: 1, name: 'lo', loopback: true };
const address = (ifindex: number, text: string) => {
  return { ifindex, egress: true, ...parseAddress(text) };
};
const NETWORK: NetworkState = {
  interfaces: [LO, ETH0],
  addresses: [
    address(1, '127.0.0.1'),
    address(1, '172.190.0.17'),
    address(2, '192.168.1.5'),
    address(2, '2001:db8::5'),
    address(2, 'fe80::5'),
  ],
  defaultDevices: ['eth0'],
};
const spec = { name: 'web-1', interface: 'lxc', addresses: ['10.0.1.10', 'FD00:1::10'], id: 1 };
const PLAN: Plan = {
  devices: [ETH0],
  endpoints: [{ spec, link: ETH0 }],
  rows: {
    ipv4: { devices: [], endpoints: [], prefixes: [], tunnelPeers: [] },
    ipv6: { devices: [], endpoints: [], prefixes: [], tunnelPeers: [] },
  },
  names: new Map(),
  problems: [],
};

function facts(nodePortAddresses: string[] = []) {
  const config = {
    node: { name: 'a', devices: [], podCIDRs: ['10.0.1.0/24'], nodePortAddresses },
    cluster: { nodes: [{ name: 'b', address: '192.168.1.6', podCIDRs: ['10.0.2.0/24'] }] },
    endpoints: [],
  };
  return serviceFacts(config, PLAN, NETWORK);
}

function nodePorts(addresses: string[] = []): string[] {
  const { ipv4, ipv6 } = facts(addresses).nodePorts;
  return [...ipv4, ...ipv6].map(formatAddress);
}

test('node ports are on the addresses of the devices, except link-local ones', () => {
  assert.deepEqual(nodePorts(), ['192.168.1.5', '2001:db8::5']);
});

test('or on those that the configuration names, as far as the node has them', () => {
  assert.deepEqual(nodePorts(['172.190.0.17', '192.168.1.99']), ['172.190.0.17']);
  assert.deepEqual(facts(['192.168.1.99']).problems, [
    'node.nodePortAddresses: 192.168.1.99 is not an address of this node',
  ]);
});

test('an address of a node, a pod or a pod range is taken, one on loopback is free', () => {
  const known = facts();
  const reason = (text: string) => taken(known, parseAddress(text).bytes, text);
  assert.equal(reason('192.168.1.5'), 'is the address of this node');
  assert.equal(reason('192.168.1.6'), 'is the address of node b');
  assert.equal(reason('fd00:1::10'), 'is the address of endpoint web-1');
  assert.equal(reason('10.0.1.77'), 'lies in a pod range of this node');
  assert.equal(reason('10.0.2.77'), 'lies in a pod range of node b');
  assert.equal(reason('172.190.0.17'), undefined);
  assert.equal(reason('10.96.0.1'), undefined);
});
