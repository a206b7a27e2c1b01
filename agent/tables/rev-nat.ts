import { decode, encodeInto } from '../abi/codec.ts';
import { layouts, type RevNat } from '../abi/generated.ts';
import { type Family, formatAddress } from '../lib/ip.ts';
import { readIndex, writeIndex } from './index-key.ts';
import type { RowCodec } from './row-map.ts';

/** What a service's answers come from: `rev_nat`. */
export interface RevNatRow extends RevNat {
  index: number;
}

export function revNatCodec(family: Family): RowCodec<RevNatRow> {
  const { rev_nat } = layouts[family];
  return {
    keySize: 4,
    valueSize: rev_nat.size,
    writeKey: ({ index }, bytes, at) => writeIndex(index, bytes, at),
    writeValue({ addr, port, service_id }, bytes, at) {
      encodeInto(rev_nat, { addr, port, service_id }, bytes, at);
    },
    read: (keys, k, values, v) => ({ index: readIndex(keys, k), ...decode(rev_nat, values, v) }),
  };
}

/** Equal for rows that say the same. */
export function revNatText({ addr, port, service_id }: RevNatRow): string {
  return `${formatAddress(addr)} ${port} ${service_id}`;
}
