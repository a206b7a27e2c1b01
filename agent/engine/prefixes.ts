import { prefix_flag } from '../abi/generated.ts';
import {
  addressNumber,
  type Family,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixAround,
} from '../lib/ip.ts';
import type { PrefixRow } from '../tables/prefixes.ts';

/** What the configuration says about prefixes, as text. */
export interface PrefixSources {
  /** Destinations that are never masqueraded. */
  exclude: readonly string[];
  /** This node's own pods. */
  podCIDRs: readonly string[];
  /** The other nodes and their pods: never masqueraded. */
  nodes: readonly { address: string; podCIDRs: readonly string[] }[];
}

/** `tunnel` is undefined where the prefixes around it tell. */
type Flagged = Pick<PrefixRow, 'prefix' | 'flags'> & { tunnel?: number | undefined };

/**
 * The rows of one family, wide prefixes first, each prefix once. A lookup sees the longest match
 * only, so every row also carries the flags of the prefixes around it, and the node to tunnel to of
 * the narrowest that has one. Throws E_BAD_ADDRESS.
 */
export function prefixRows(family: Family, sources: PrefixSources): PrefixRow[] {
  const own = merge(collect(sources).filter((row) => row.prefix.family === family));
  const rows = [...own.values()].sort((a, b) => a.prefix.length - b.prefix.length);
  const lengths = [...new Set(rows.map(({ prefix }) => prefix.length))];
  return rows.map(({ prefix }) => ({ prefix, identity: 0, ...around(own, lengths, prefix) }));
}

/** IPv4 addresses of the other nodes: tunnelled packets come from there. */
export function tunnelPeers({ nodes }: PrefixSources): Uint8Array[] {
  return nodes
    .map(({ address }) => parseAddress(address))
    .filter(({ family }) => family === 'ipv4')
    .map(({ bytes }) => bytes);
}

function collect({ exclude, podCIDRs, nodes }: PrefixSources): Flagged[] {
  const flags = prefix_flag.PREFIX_NO_MASQUERADE;
  return [
    ...exclude.map((text) => ({ prefix: parsePrefix(text), flags })),
    ...nodes.flatMap(({ address, podCIDRs: pods }) =>
      [hostPrefix(address), ...pods.map(parsePrefix)].map((prefix) => {
        return { prefix, flags, tunnel: tunnelTo(address) };
      }),
    ),
    ...podCIDRs.map((text) => {
      return { prefix: parsePrefix(text), flags: prefix_flag.PREFIX_LOCAL_PODS, tunnel: 0 };
    }),
  ];
}

/** As a number; 0 for a node that has no IPv4 address: the tunnel's outer header is IPv4. */
function tunnelTo(text: string): number {
  const { family, bytes } = parseAddress(text);
  return family === 'ipv4' ? addressNumber(bytes) : 0;
}

function hostPrefix(text: string): Prefix {
  const address = parseAddress(text);
  return { ...address, length: address.bytes.length * 8 };
}

/** By the text of the prefix. */
function merge(rows: Flagged[]): Map<string, Flagged> {
  const merged = new Map<string, Flagged>();
  for (const { prefix, flags, tunnel } of rows) {
    const name = formatPrefix(prefix);
    const there = merged.get(name);
    merged.set(name, {
      prefix,
      flags: flags | (there?.flags ?? 0),
      tunnel: there?.tunnel ?? tunnel,
    });
  }
  return merged;
}

/** Of the prefix and those around it, looked up by each length there is: there may be thousands. */
function around(
  rows: Map<string, Flagged>,
  lengths: number[],
  inner: Prefix,
): { flags: number; tunnel: number } {
  let [flags, tunnel] = [0, 0];
  for (const length of lengths) {
    if (length > inner.length) continue;
    const row = rows.get(formatPrefix(prefixAround(inner, length)));
    flags |= row?.flags ?? 0;
    tunnel = row?.tunnel ?? tunnel;
  }
  return { flags, tunnel };
}
