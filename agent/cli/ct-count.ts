import type { CtEntry, Tuple } from '../abi/generated.ts';
import { familyOf } from '../lib/ip.ts';
import type { ConntrackState } from './ct-format.ts';
import { conntrackState } from './ct-format.ts';
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
  const groups = new Map<string, ConntrackCount>();
  return {
    add(tuple, entry) {
      const state = conntrackState(tuple, entry, now);
      const family = familyOf(tuple.saddr);
      const key = `${family} ${tuple.proto} ${tuple.kind} ${state}`;
      const known = groups.get(key);
      if (known) {
        known.count++;
        return;
      }
      const kind = `${kindName(tuple.kind)}${isRelated(tuple.kind) ? ' related' : ''}`;
      groups.set(key, { family, protocol: protocolName(tuple.proto), kind, state, count: 1 });
    },
    counts: () => [...groups.values()].sort((a, b) => b.count - a.count),
  };
}
