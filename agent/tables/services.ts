import { decode, encodeInto } from '../abi/codec.ts';
import { layouts, type Service } from '../abi/generated.ts';
import { type Family, formatAddress } from '../lib/ip.ts';
import type { RowCodec } from './row-map.ts';

/** A frontend, as one scope sees it: `services`. Port and protocol 0: any other port. */
export interface ServiceRow extends Service {
  addr: Uint8Array;
  port: number;
  proto: number;
  /** enum service_scope */
  scope: number;
}

export function serviceCodec(family: Family): RowCodec<ServiceRow> {
  const { service_key: key, service: value } = layouts[family];
  return {
    keySize: key.size,
    valueSize: value.size,
    writeKey({ addr, port, proto, scope }, bytes, at) {
      encodeInto(key, { addr, port, proto, scope }, bytes, at);
    },
    writeValue({ id, backends, affinity_timeout, rev_nat_index, flags }, bytes, at) {
      encodeInto(value, { id, backends, affinity_timeout, rev_nat_index, flags }, bytes, at);
    },
    read: (keys, k, values, v) => ({ ...decode(key, keys, k), ...decode(value, values, v) }),
  };
}

/** Names the row among those of its map. */
export function serviceKeyText({ addr, port, proto, scope }: ServiceRow): string {
  return `${formatAddress(addr)} ${port}/${proto} ${scope}`;
}

/** Equal for rows that say the same. */
export function serviceText(row: ServiceRow): string {
  const { id, backends, affinity_timeout, rev_nat_index, flags } = row;
  return [id, backends, affinity_timeout, rev_nat_index, flags].join();
}
