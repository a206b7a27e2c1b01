import { decode, encode } from '../abi/codec.ts';
import { layouts } from '../abi/generated.ts';
import type { BpfMap } from '../kernel/map.ts';
import type { Family, Prefix } from '../lib/ip.ts';

export interface PrefixRow {
  prefix: Prefix;
  identity: number;
  /** enum prefix_flag */
  flags: number;
  /** IPv4 address of the node that has it, as a number; 0: none. */
  tunnel: number;
}

export function readPrefixes(map: BpfMap, family: Family): PrefixRow[] {
  const { prefix_key, prefix } = layouts[family];
  return map.readAll().map(([key, value]) => {
    const { addr, prefixlen } = decode(prefix_key, key);
    return { prefix: { family, bytes: addr, length: prefixlen }, ...decode(prefix, value) };
  });
}

export function setPrefix(map: BpfMap, { prefix, ...value }: PrefixRow): void {
  map.update(prefixKey(prefix), encode(layouts[prefix.family].prefix, value));
}

/** False when there was none. */
export function deletePrefix(map: BpfMap, prefix: Prefix): boolean {
  return map.delete(prefixKey(prefix));
}

function prefixKey({ family, bytes, length }: Prefix): Uint8Array {
  return encode(layouts[family].prefix_key, { prefixlen: length, addr: bytes });
}
