import type { Path, State } from './paths.ts';
import type { Hook } from './runner.ts';

/**
 * Nanoseconds per packet of Cilium 1.18-dev (1c13836613ad), IPv4, masquerade in BPF: its full
 * from-container, to-netdev and from-netdev programs, tail calls and policy included, measured by
 * the same wrapper method on another day and machine. To be read as an order of magnitude.
 */
export const REFERENCE: Record<'tcp' | 'udp', Record<Hook, Partial<Record<State, number>>>> = {
  tcp: {
    from_endpoint: { hot: 422, many: 866, new: 1212 },
    to_netdev: { hot: 447, many: 1396, new: 1698 },
    from_netdev: { hot: 814, many: 1964, new: 1982 },
  },
  udp: {
    from_endpoint: { hot: 408 },
    to_netdev: { hot: 463 },
    from_netdev: { hot: 787 },
  },
};

/** Its map lookups for an established packet. */
export const REFERENCE_LOOKUPS: Record<Hook, number> = {
  from_endpoint: 9,
  to_netdev: 8,
  from_netdev: 12,
};

/**
 * The same of service flows, one at a time, without socket load balancing; from a node port to a
 * pod of the node with that pod's policy, as in from_netdev above. What its other hooks leave to
 * a later one is not here.
 */
export const SERVICE_REFERENCE: Partial<Record<Path, { ns: number; lookups: number }>> = {
  cluster_ip_away: { ns: 751, lookups: 11 },
  node_port: { ns: 1124, lookups: 16 },
  node_port_away: { ns: 836, lookups: 10 },
  node_port_away_answer: { ns: 667, lookups: 8 },
};
