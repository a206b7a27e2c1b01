import { decode, encodeInto } from '../abi/codec.ts';
import { type Backend, layouts } from '../abi/generated.ts';
import { type Family, formatAddress } from '../lib/ip.ts';
import { readIndex, writeIndex } from './index-key.ts';
import type { RowCodec } from './row-map.ts';

/** Who answers for a service: `backends`. */
export interface BackendRow extends Backend {
  id: number;
}

export function backendCodec(family: Family): RowCodec<BackendRow> {
  const { backend } = layouts[family];
  return {
    keySize: 4,
    valueSize: backend.size,
    writeKey: ({ id }, bytes, at) => writeIndex(id, bytes, at),
    writeValue({ addr, port, proto, state, service_id }, bytes, at) {
      encodeInto(backend, { addr, port, proto, state, service_id }, bytes, at);
    },
    read: (keys, k, values, v) => ({ id: readIndex(keys, k), ...decode(backend, values, v) }),
  };
}

/** Equal for rows that say the same. */
export function backendText({ addr, port, proto, state, service_id }: BackendRow): string {
  return `${formatAddress(addr)} ${port}/${proto} ${state} ${service_id}`;
}
