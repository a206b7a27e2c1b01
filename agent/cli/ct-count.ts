import type { CtEntry } from '../abi/generated.ts';
import { familyOf } from '../lib/ip.ts';
import type { Connection } from '../tables/connections.ts';
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

/** Counts entries by family, protocol, kind and state; the most frequent first. */
export async function countConntrack(
  rows: AsyncIterable<Connection<CtEntry>>,
  now: number | undefined,
): Promise<ConntrackCount[]> {
  const counts = new Map<string, ConntrackCount>();
  for await (const { tuple, entry } of rows) {
    const state = conntrackState(tuple, entry, now);
    const family = familyOf(tuple.saddr);
    const key = `${family} ${tuple.proto} ${tuple.kind} ${state}`;
    const known = counts.get(key);
    if (known) {
      known.count++;
      continue;
    }
    const kind = `${kindName(tuple.kind)}${isRelated(tuple.kind) ? ' related' : ''}`;
    counts.set(key, { family, protocol: protocolName(tuple.proto), kind, state, count: 1 });
  }
  return [...counts.values()].sort((a, b) => b.count - a.count);
}
