import { FAMILIES, type Family, type Prefix, prefixContains } from '../lib/ip.ts';

/** What services are compiled against: this node and those around it. */
export interface NodeFacts {
  /** Addresses that serve node ports, network order. */
  nodePorts: Readonly<Record<Family, readonly Uint8Array[]>>;
  /** Every address of this node, as text. */
  own: ReadonlySet<string>;
  /** Addresses that are a node's, this one's or another's, as text: what they are. */
  nodes: ReadonlyMap<string, string>;
  /** Addresses of local endpoints, as text: the name of each. */
  endpoints: ReadonlyMap<string, string>;
  /** Where pods are. */
  podRanges: readonly PodRange[];
  /** What of the configuration cannot be followed, one sentence each. */
  problems: readonly string[];
}

export interface PodRange {
  prefix: Prefix;
  /** Whose: `this node`, or a node's name. */
  of: string;
}

/** Nothing is known of the node: no node ports, nothing local. */
export const NO_FACTS: NodeFacts = {
  nodePorts: { ipv4: [], ipv6: [] },
  own: new Set(),
  nodes: new Map(),
  endpoints: new Map(),
  podRanges: [],
  problems: [],
};

/** Why no service can have the address, or undefined: ends the sentence "frontend x …". */
export function taken(facts: NodeFacts, bytes: Uint8Array, text: string): string | undefined {
  const node = facts.nodes.get(text);
  if (node !== undefined) return `is the address of ${node}`;
  const endpoint = facts.endpoints.get(text);
  if (endpoint !== undefined) return `is the address of endpoint ${endpoint}`;
  const range = facts.podRanges.find(({ prefix }) => prefixContains(prefix, bytes));
  return range && `lies in a pod range of ${range.of}`;
}

/** Equal for facts that lead to the same rows. */
export function factsText(facts: NodeFacts): string {
  return JSON.stringify([
    FAMILIES.map((family) => facts.nodePorts[family].map((bytes) => [...bytes])),
    [...facts.own].sort(),
    [...facts.nodes].sort(),
    [...facts.endpoints].sort(),
    facts.podRanges.map(({ prefix: { bytes, length }, of }) => [[...bytes], length, of]),
  ]);
}
