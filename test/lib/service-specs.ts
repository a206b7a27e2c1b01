import { parseAddress, parsePrefix } from '../../agent/lib/ip.ts';
import { NO_FACTS, type NodeFacts } from '../../agent/services/facts.ts';
import type { BackendSpec, ServiceSpec } from '../../agent/services/spec.ts';

/** A service of one frontend, 10.96.0.1:80, and what else it is to be. */
export function specOf(overrides: Partial<ServiceSpec> = {}): ServiceSpec {
  return {
    name: 'web',
    type: 'ClusterIP',
    frontends: [{ address: '10.96.0.1', port: 80, protocol: 'TCP' }],
    backends: [],
    algorithm: 'maglev',
    externalTrafficPolicy: 'Cluster',
    internalTrafficPolicy: 'Cluster',
    forwarding: 'snat',
    sourceRanges: [],
    ...overrides,
  };
}

export function backend(address: string, overrides: Partial<BackendSpec> = {}): BackendSpec {
  return { address, port: 8000, weight: 1, state: 'active', ...overrides };
}

/** A node with the address 192.168.1.5, the pods 10.0.1.0/24 and the endpoint 10.0.1.10. */
export function factsOf(overrides: Partial<NodeFacts> = {}): NodeFacts {
  return {
    ...NO_FACTS,
    nodePorts: { ipv4: [parseAddress('192.168.1.5').bytes], ipv6: [] },
    own: new Set(['192.168.1.5', '127.0.0.1']),
    nodes: new Map([
      ['192.168.1.5', 'this node'],
      ['192.168.1.6', 'node node-b'],
    ]),
    endpoints: new Map([['10.0.1.10', 'web-1']]),
    podRanges: [{ prefix: parsePrefix('10.0.1.0/24'), of: 'this node' }],
    ...overrides,
  };
}
