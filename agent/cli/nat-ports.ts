import { kind as KIND, type NatEntry, type Tuple } from '../abi/generated.ts';
import { formatAddress, formatEndpoint } from '../lib/ip.ts';
import { protocolName } from './names.ts';
import { Tally } from './tally.ts';

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
  /** The fullest first, at most `top` of them, made one at a time. */
  uses(top?: number): Generator<PortUse, void, undefined>;
}

/**
 * `now` in seconds of the datapath's clock tells which entries have expired. Counts are exact. A
 * destination takes some 30 bytes (IPv6: 40), so that a million of them are no burden.
 */
export function countPorts(capacityOf: PortRanges, now: number | undefined): PortCounter {
  const [ipv4, ipv6] = [createDestinations(4, capacityOf), createDestinations(16, capacityOf)];
  return {
    add(tuple, entry) {
      if (tuple.kind !== KIND.KIND_IN || isOver(entry, now)) return;
      const { saddr } = tuple;
      (saddr.length === 4 ? ipv4 : ipv6).add(tuple.daddr, saddr, tuple.sport, tuple.proto);
    },
    *uses(top = Number.POSITIVE_INFINITY) {
      const shares = new Float64Array(ipv4.size() + ipv6.size());
      const split = ipv4.size();
      for (let i = 0; i < split; i++) shares[i] = ipv4.share(i);
      for (let i = split; i < shares.length; i++) shares[i] = ipv6.share(i - split);
      const order = Uint32Array.from(shares.keys());
      order.sort((a, b) => (shares[b] ?? 0) - (shares[a] ?? 0));
      for (const i of order.subarray(0, top)) yield i < split ? ipv4.use(i) : ipv6.use(i - split);
    },
  };
}

/** Destinations of one family, numbered from 0. Addresses are of `size` bytes. */
function createDestinations(size: number, capacityOf: PortRanges) {
  const egresses = new Tally(size / 4);
  /** Number of the egress address, remote address, remote port and protocol. */
  const destinations = new Tally(size / 4 + 2);
  const egressKey = new Uint8Array(size);
  const key = new Uint8Array(size + 8);
  const [egressWords, words] = [new Uint32Array(egressKey.buffer), new Uint32Array(key.buffer)];
  const view = new DataView(key.buffer);
  const PORT = size + 4;
  const PROTO = size + 6;
  const capacities: number[] = [];

  const egressText = (number: number) => formatAddress(bytesOf(egresses.key(number)));

  function capacity(egress: number, proto: number): number {
    if (ECHO_PROTOCOLS.has(proto)) return ECHO_IDENTIFIERS;
    capacities[egress] ??= capacityOf(egressText(egress));
    return capacities[egress];
  }

  function load(number: number): { egress: number; port: number; proto: number } {
    words.set(destinations.key(number));
    return { egress: words[0] ?? 0, port: view.getUint16(PORT), proto: view.getUint8(PROTO) };
  }

  return {
    size: () => destinations.size,
    add(egress: Uint8Array, remote: Uint8Array, port: number, proto: number) {
      egressKey.set(egress);
      words[0] = egresses.add(egressWords);
      key.set(remote, 4);
      view.setUint16(PORT, port);
      view.setUint8(PROTO, proto);
      destinations.add(words);
    },
    /** Ports taken by ports there are. */
    share(number: number): number {
      const { egress, proto } = load(number);
      return destinations.count(number) / capacity(egress, proto);
    },
    use(number: number): PortUse {
      const { egress, port, proto } = load(number);
      const used = destinations.count(number);
      const ports = capacity(egress, proto);
      return {
        protocol: protocolName(proto),
        egress: egressText(egress),
        remote: formatEndpoint(key.subarray(4, PORT), port),
        used,
        capacity: ports,
        percent: (100 * used) / ports,
      };
    },
  };
}

function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** An entry whose time is 0 is being taken over by another flow: its port is in use. */
function isOver({ expires }: NatEntry, now: number | undefined): boolean {
  return now !== undefined && expires !== 0 && expires <= now;
}
