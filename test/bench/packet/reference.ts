import type { State } from './paths.ts';
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
