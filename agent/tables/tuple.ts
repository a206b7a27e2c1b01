import { decode, encode } from '../abi/codec.ts';
import { layouts, type Tuple } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';

export type { Tuple } from '../abi/generated.ts';

/** The key of a connection table: 16 bytes for IPv4, 40 for IPv6. */
export function encodeTuple(family: Family, tuple: Tuple): Uint8Array {
  return encode(layouts[family].tuple, tuple);
}

/** Reads a key at a byte offset; ports are host numbers, addresses stay in network order. */
export function decodeTuple(family: Family, bytes: Uint8Array, offset = 0): Tuple {
  return decode(layouts[family].tuple, bytes, offset);
}
