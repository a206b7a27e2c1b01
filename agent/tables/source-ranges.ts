import { decode, encodeInto } from '../abi/codec.ts';
import { layouts } from '../abi/generated.ts';
import { type Family, formatPrefix, type Prefix } from '../lib/ip.ts';
import type { RowCodec } from './row-map.ts';

/** The id is compared before the address. */
const ID_BITS = 32;

/** Clients that a service lets in: `source_ranges`. */
export interface SourceRangeRow {
  serviceId: number;
  prefix: Prefix;
}

export function sourceRangeCodec(family: Family): RowCodec<SourceRangeRow> {
  const { source_range_key: key } = layouts[family];
  return {
    keySize: key.size,
    valueSize: 4,
    writeKey({ serviceId, prefix: { bytes: addr, length } }, bytes, at) {
      const service_id = swap(serviceId);
      encodeInto(key, { prefixlen: ID_BITS + length, service_id, addr }, bytes, at);
    },
    writeValue(_row, bytes, at) {
      bytes[at] = 1;
    },
    read(keys, k) {
      const { prefixlen, service_id, addr } = decode(key, keys, k);
      const prefix = { family, bytes: addr, length: prefixlen - ID_BITS };
      return { serviceId: swap(service_id), prefix };
    },
  };
}

/** Names the row among those of its map. */
export function sourceRangeText({ serviceId, prefix }: SourceRangeRow): string {
  return `${serviceId} ${formatPrefix(prefix)}`;
}

/** Between network order and the host's. */
function swap(word: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, word, true);
  return view.getUint32(0);
}
