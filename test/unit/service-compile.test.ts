import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../agent/lib/ip.ts';
import { compile } from '../../agent/services/compile.ts';
import { prepareService } from '../../agent/services/prepare.ts';
import type { ServiceSpec } from '../../agent/services/spec.ts';
import { backend, factsOf, specOf } from '../lib/service-specs.ts';

const ELSEWHERE = [{ address: '10.96.0.2', port: 80, protocol: 'TCP' as const }];

function compiled(specs: Partial<ServiceSpec>[], facts = factsOf()) {
  return compile(
    specs.map((spec) => prepareService(specOf(spec))),
    facts,
  );
}

/** Reasons by name. */
function rejections(specs: Partial<ServiceSpec>[], facts = factsOf()): Record<string, string> {
  const { rejected } = compiled(specs, facts);
  return Object.fromEntries([...rejected].map(([{ spec }, reason]) => [spec.name, reason]));
}

function partsOf(spec: Partial<ServiceSpec>, facts = factsOf()) {
  const { parts, rejected } = compiled([spec], facts);
  assert.deepEqual([...rejected.values()], []);
  return [...parts.values()].flat();
}

const REJECTED: [what: string, spec: Partial<ServiceSpec>, reason: RegExp][] = [
  [
    'an address in a pod range',
    { frontends: [{ address: '10.0.1.99', port: 80, protocol: 'TCP' }] },
    /^frontend 10\.0\.1\.99 lies in a pod range of this node$/,
  ],
  [
    "an endpoint's address",
    { frontends: [{ address: '10.0.1.10', port: 80, protocol: 'TCP' }] },
    /^frontend 10\.0\.1\.10 is the address of endpoint web-1$/,
  ],
  [
    "another node's address",
    { frontends: [{ address: '192.168.1.6', port: 80, protocol: 'TCP' }] },
    /^frontend 192\.168\.1\.6 is the address of node node-b$/,
  ],
  [
    'a backend of another family',
    { backends: [backend('fd00::1')] },
    /^\[fd00::1\]:8000 and 10\.96\.0\.1:80 are of different families$/,
  ],
  [
    'frontends of different families',
    { frontends: [...specOf().frontends, { address: 'fd00::1', port: 80, protocol: 'TCP' }] },
    /different families/,
  ],
  [
    'a backend twice',
    { backends: [backend('10.0.1.10'), backend('10.0.1.10', { weight: 2 })] },
    /^backend 10\.0\.1\.10:8000 stands twice$/,
  ],
  [
    'a frontend twice',
    { frontends: [...specOf().frontends, ...specOf().frontends] },
    /^frontend 10\.96\.0\.1:80\/TCP stands twice$/,
  ],
  [
    'a protocol that is not balanced',
    { frontends: [{ address: '10.96.0.1', port: 80, protocol: 'SCTP' }] },
    /^frontend 10\.96\.0\.1:80\/SCTP: only TCP and UDP are balanced$/,
  ],
  [
    'more backends than a table has slots',
    { backends: Array.from({ length: 16_382 }, (_, i) => backend('10.0.2.1', { port: i + 1 })) },
    /^16382 backends are more than 16381$/,
  ],
  ['no frontend', { frontends: [] }, /^it has no frontend$/],
  ['a node port without the type for it', { nodePort: 30_001 }, /has no node port$/],
  ['the type for it without a node port', { type: 'NodePort' }, /needs a nodePort$/],
];

for (const [what, spec, reason] of REJECTED) {
  test(`a service with ${what} is rejected with the reason, and the rest works`, () => {
    const reasons = rejections([
      { ...spec, name: 'bad' },
      { name: 'good', frontends: ELSEWHERE },
    ]);
    assert.deepEqual(Object.keys(reasons), ['bad']);
    assert.match(reasons.bad ?? '', reason);
  });
}

test('of two services with one frontend the first has it', () => {
  assert.deepEqual(rejections([{ name: 'first' }, { name: 'second' }]), {
    second: 'frontend 10.96.0.1:80/TCP belongs to service first',
  });
});

test('a node port is one service only, in each family and protocol', () => {
  const port = { type: 'NodePort' as const, nodePort: 30_001 };
  const reasons = rejections([
    { ...port, name: 'a' },
    { ...port, name: 'b', frontends: ELSEWHERE },
    { ...port, name: 'c', frontends: [{ ...ELSEWHERE[0]!, protocol: 'UDP' }] },
    { ...port, name: 'd', frontends: [{ address: 'fd00::1', port: 80, protocol: 'TCP' }] },
  ]);
  assert.deepEqual(reasons, { b: 'node port 30001/TCP belongs to service a' });
});

test('a rejected service leaves what it asked for to others', () => {
  const reasons = rejections([{ name: 'bad', backends: [backend('fd00::1')] }, { name: 'good' }]);
  assert.deepEqual(Object.keys(reasons), ['bad']);
});

test('a node port is on every address that serves them, next to the frontends', () => {
  const nodePorts = {
    ipv4: [parseAddress('192.168.1.5').bytes, parseAddress('192.168.9.5').bytes],
    ipv6: [parseAddress('2001:db8::5').bytes],
  };
  const [part, ...others] = partsOf({ type: 'NodePort', nodePort: 30_001 }, factsOf({ nodePorts }));
  assert.deepEqual(others, []);
  assert.deepEqual(
    part?.frontends.map(({ text, kind, external }) => [text, kind, external]),
    [
      ['10.96.0.1:80', 'service', false],
      ['192.168.1.5:30001', 'nodePort', true],
      ['192.168.9.5:30001', 'nodePort', true],
    ],
  );
});

test('a node port without frontends and backends is there in both families', () => {
  const parts = partsOf({ type: 'NodePort', nodePort: 30_001, frontends: [] });
  assert.deepEqual(
    parts.map(({ family, protocol }) => [family, protocol]),
    [
      ['ipv4', 'TCP'],
      ['ipv6', 'TCP'],
    ],
  );
});

test('a service of two protocols has a part for each', () => {
  const dns = { address: '10.96.0.10', port: 53 };
  const frontends = (['UDP', 'TCP'] as const).map((protocol) => ({ ...dns, protocol }));
  const parts = partsOf({ frontends, backends: [backend('10.0.1.10')] });
  assert.deepEqual(
    parts.map(({ key, frontends: own }) => [key, own.length]),
    [
      ['web ipv4 UDP', 1],
      ['web ipv4 TCP', 1],
    ],
  );
});

test('a load balancer is there for the network, a cluster address is not', () => {
  const [balancer] = partsOf({ type: 'LoadBalancer' });
  const [cluster] = partsOf({});
  assert.equal(balancer?.frontends[0]?.external, true);
  assert.equal(cluster?.frontends[0]?.external, false);
});

test('only active backends are chosen, terminating ones where there is none', () => {
  const states = ['active', 'terminating', 'quarantined', 'maintenance'] as const;
  const backends = states.map((state, i) => backend(`10.0.2.${i + 1}`, { state }));
  assert.deepEqual(partsOf({ backends })[0]?.external, [0]);
  assert.deepEqual(partsOf({ backends: backends.slice(1) })[0]?.external, [0]);
  assert.deepEqual(partsOf({ backends: backends.slice(2) })[0]?.external, []);
  const idle = [backend('10.0.2.9', { weight: 0 }), ...backends.slice(1)];
  assert.deepEqual(partsOf({ backends: idle })[0]?.external, [1]);
});

test('with policy Local only endpoints of this node are chosen, by those that it is for', () => {
  const backends = [backend('10.0.1.10'), backend('10.0.2.10')];
  const members = (external: 'Cluster' | 'Local', internal: 'Cluster' | 'Local') => {
    const policies = { externalTrafficPolicy: external, internalTrafficPolicy: internal };
    const [part] = partsOf({ type: 'LoadBalancer', backends, ...policies });
    return [part?.isSplit, part?.external, part?.internal];
  };
  assert.deepEqual(members('Cluster', 'Cluster'), [false, [0, 1], [0, 1]]);
  assert.deepEqual(members('Local', 'Cluster'), [true, [0], [0, 1]]);
  assert.deepEqual(members('Cluster', 'Local'), [true, [0, 1], [0]]);
  assert.deepEqual(members('Local', 'Local'), [false, [0], [0]]);
});

test('an active backend elsewhere does not keep a local one that terminates from the last connections', () => {
  const backends = [backend('10.0.1.10', { state: 'terminating' }), backend('10.0.2.10')];
  const [part] = partsOf({ backends, internalTrafficPolicy: 'Local' });
  assert.deepEqual(part?.internal, [0]);
  assert.deepEqual(part?.external, [1]);
});

test('other ports of a service address are known, unless it is an address of the node', () => {
  const { addresses } = compiled([
    { name: 'a' },
    {
      name: 'b',
      frontends: [{ address: '10.96.0.1', port: 443, protocol: 'TCP' }],
      type: 'LoadBalancer',
    },
    { name: 'c', frontends: [{ address: '127.0.0.1', port: 443, protocol: 'TCP' }] },
  ]);
  assert.deepEqual(
    addresses.map(({ bytes, external }) => [bytes.join('.'), external]),
    [['10.96.0.1', true]],
  );
});

test('what a change of the node does not concern goes on as it was', () => {
  const services = [
    prepareService(specOf({ backends: [backend('10.0.1.10')] })),
    prepareService(
      specOf({ name: 'np', type: 'NodePort', nodePort: 30_001, frontends: ELSEWHERE }),
    ),
  ];
  const before = compile(services, factsOf());
  const nodePorts = { ipv4: [parseAddress('192.168.1.9').bytes], ipv6: [] };
  const after = compile(services, factsOf({ nodePorts }), before);
  const [web, np] = services as [(typeof services)[0], (typeof services)[0]];
  assert.equal(after.parts.get(web), before.parts.get(web));
  assert.notEqual(after.parts.get(np), before.parts.get(np));
});

test('what the maps have no room for is rejected, and what fits is taken', () => {
  const many = (name: string, count: number): Partial<ServiceSpec> => {
    const frontends = Array.from({ length: count }, (_, i) => {
      return { address: '10.96.0.9', port: i + 1, protocol: 'UDP' as const };
    });
    return { name, frontends };
  };
  const reasons = rejections([many('most', 65_534), many('more', 2), { name: 'last' }]);
  assert.deepEqual(reasons, { more: 'frontend 10.96.0.9:1/UDP belongs to service most' });
  const wide = { ...many('wide', 2), frontends: [...ELSEWHERE, ...specOf().frontends] };
  assert.deepEqual(rejections([many('most', 65_534), wide, { name: 'last' }]), {
    wide: 'no room for it: a family has 65535 frontends at most',
  });
});
