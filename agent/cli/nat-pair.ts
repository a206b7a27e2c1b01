import type { NatEntry, Tuple } from '../abi/generated.ts';

const KIND_OUT = 0;
const KIND_IN = 1;

/**
 * Key of the other half of a NAT pair: the reverse entry of a forward one, and the other way
 * round. `entry` is the value that stands under `tuple`.
 */
export function otherHalf(tuple: Tuple, { addr, port }: Pick<NatEntry, 'addr' | 'port'>): Tuple {
  const { saddr, daddr, sport, dport, proto } = tuple;
  return tuple.kind === KIND_IN
    ? { saddr: addr, sport: port, daddr: saddr, dport: sport, proto, kind: KIND_OUT }
    : { saddr: daddr, sport: dport, daddr: addr, dport: port, proto, kind: KIND_IN };
}
