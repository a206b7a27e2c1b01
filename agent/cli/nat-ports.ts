import type { NatEntry, Tuple } from '../abi/generated.ts';
import { formatAddress, formatEndpoint } from '../lib/ip.ts';
import { protocolName } from './names.ts';

const KIND_IN = 1;
const ECHO_PROTOCOLS: ReadonlySet<number> = new Set([1, 58]);
const ECHO_IDENTIFIERS = 65_536;

/** How many ports one egress address has, by its text. */
export type PortRanges = (egress: string) => number;

export interface PortUse {
  protocol: string;
  /** Address that the flows leave from. */
  egress: string;
  /** Address and port that they go to. */
  remote: string;
  /** Ports (ICMP: identifiers) that are taken. */
  used: number;
  /** Ports that there are. */
  capacity: number;
  percent: number;
}

/** Counts ports per (protocol, egress address, remote address and port). */
export interface PortCounter {
  /** Takes an entry of either direction; every live reverse entry holds one port. */
  add(tuple: Tuple, entry: NatEntry): void;
  /** The fullest first. */
  uses(): PortUse[];
}

/** `now` in seconds of the datapath's clock tells which entries have expired. */
export function countPorts(capacityOf: PortRanges, now: number | undefined): PortCounter {
  const groups = new Map<string, PortUse>();
  return {
    add({ proto, saddr, sport, daddr, kind }, entry) {
      if (kind !== KIND_IN || isOver(entry, now)) return;
      const egress = formatAddress(daddr);
      const remote = formatEndpoint(saddr, sport);
      const key = `${proto} ${egress} ${remote}`;
      const known = groups.get(key);
      if (known) {
        known.used++;
        return;
      }
      const capacity = ECHO_PROTOCOLS.has(proto) ? ECHO_IDENTIFIERS : capacityOf(egress);
      const protocol = protocolName(proto);
      groups.set(key, { protocol, egress, remote, used: 1, capacity, percent: 0 });
    },
    uses() {
      const uses = [...groups.values()];
      for (const use of uses) use.percent = (100 * use.used) / use.capacity;
      return uses.sort((a, b) => b.percent - a.percent || b.used - a.used);
    },
  };
}

/** An entry whose time is 0 is being taken over by another flow: its port is in use. */
function isOver({ expires }: NatEntry, now: number | undefined): boolean {
  return now !== undefined && expires !== 0 && expires <= now;
}
