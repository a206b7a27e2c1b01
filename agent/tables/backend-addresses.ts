import { decode, encodeInto } from '../abi/codec.ts';
import { type BackendAddress, layouts } from '../abi/generated.ts';
import { type Family, formatAddress } from '../lib/ip.ts';
import { readIndex, writeIndex } from './index-key.ts';
import type { RowCodec } from './row-map.ts';

/** An address that backends have: `backend_addresses`. */
export interface BackendAddressRow extends BackendAddress {
  /** How many. */
  count: number;
}

export function backendAddressCodec(family: Family): RowCodec<BackendAddressRow> {
  const { backend_address: key } = layouts[family];
  return {
    keySize: key.size,
    valueSize: 4,
    writeKey({ addr, port, proto }, bytes, at) {
      encodeInto(key, { addr, port, proto }, bytes, at);
    },
    writeValue: ({ count }, bytes, at) => writeIndex(count, bytes, at),
    read: (keys, k, values, v) => ({ ...decode(key, keys, k), count: readIndex(values, v) }),
  };
}

/** Names the row among those of its map. */
export function backendAddressText({ addr, port, proto }: BackendAddress): string {
  return `${formatAddress(addr)} ${port}/${proto}`;
}
