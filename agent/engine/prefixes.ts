import { prefix_flag } from '../abi/generated.ts';
import {
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

type Flagged = Pick<PrefixRow, 'prefix' | 'flags'>;

/**
 * The rows of one family, wide prefixes first, each prefix once. A lookup sees the longest match
 * only, so every row also carries the flags of the prefixes around it. Throws E_BAD_ADDRESS.
 */
export function prefixRows(family: Family, sources: PrefixSources): PrefixRow[] {
  const own = merge(collect(sources).filter((row) => row.prefix.family === family));
  const rows = [...own.values()].sort((a, b) => a.prefix.length - b.prefix.length);
  const lengths = [...new Set(rows.map(({ prefix }) => prefix.length))];
  return rows.map(({ prefix }) => ({
    prefix,
    identity: 0,
    flags: flagsAround(own, lengths, prefix),
  }));
}

function collect({ exclude, podCIDRs, nodes }: PrefixSources): Flagged[] {
  const bare = [...exclude, ...nodes.flatMap((node) => node.podCIDRs)].map(parsePrefix);
  const hosts = nodes.map((node) => hostPrefix(node.address));
  return [
    ...[...bare, ...hosts].map((prefix) => ({ prefix, flags: prefix_flag.PREFIX_NO_MASQUERADE })),
    ...podCIDRs.map(parsePrefix).map((prefix) => ({
      prefix,
      flags: prefix_flag.PREFIX_LOCAL_PODS,
    })),
  ];
}

function hostPrefix(text: string): Prefix {
  const address = parseAddress(text);
  return { ...address, length: address.bytes.length * 8 };
}

/** By the text of the prefix. */
function merge(rows: Flagged[]): Map<string, Flagged> {
  const merged = new Map<string, Flagged>();
  for (const { prefix, flags } of rows) {
    const name = formatPrefix(prefix);
    merged.set(name, { prefix, flags: flags | (merged.get(name)?.flags ?? 0) });
  }
  return merged;
}

/** Of the prefix and those around it, looked up by each length there is: there may be thousands. */
function flagsAround(rows: Map<string, Flagged>, lengths: number[], inner: Prefix): number {
  return lengths
    .filter((length) => length <= inner.length)
    .map((length) => rows.get(formatPrefix(prefixAround(inner, length)))?.flags ?? 0)
    .reduce((flags, around) => flags | around, 0);
}
