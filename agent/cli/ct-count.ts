import type { CtEntry, Tuple } from '../abi/generated.ts';
import { familyOf } from '../lib/ip.ts';
import { CONNTRACK_STATES, type ConntrackState, conntrackState } from './ct-format.ts';
import { isRelated, kindName, protocolName } from './names.ts';

export interface ConntrackCount {
  family: string;
  protocol: string;
  /** `OUT`, `IN`, `SVC`, or `OUT related`. */
  kind: string;
  state: ConntrackState;
  count: number;
}

/** Counts entries by family, protocol, kind and state. */
export interface ConntrackCounter {
  add(tuple: Tuple, entry: CtEntry): void;
  /** The most frequent first. */
  counts(): ConntrackCount[];
}

/** `now` in seconds of the datapath's clock tells which entries have expired. */
export function countConntrack(now: number | undefined): ConntrackCounter {
  const groups = new Map<number, ConntrackCount>();
  return {
    add(tuple, entry) {
      const state = conntrackState(tuple, entry, now);
      const { saddr, proto, kind } = tuple;
      const group =
        ((saddr.length * 256 + proto) * 256 + kind) * 8 + CONNTRACK_STATES.indexOf(state);
      const known = groups.get(group);
      if (known) {
        known.count++;
        return;
      }
      groups.set(group, {
        family: familyOf(saddr),
        protocol: protocolName(proto),
        kind: `${kindName(kind)}${isRelated(kind) ? ' related' : ''}`,
        state,
        count: 1,
      });
    },
    counts: () => [...groups.values()].sort((a, b) => b.count - a.count),
  };
}
