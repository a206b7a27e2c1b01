import { decode, encode } from '../abi/codec.ts';
import { type Endpoint, layouts } from '../abi/generated.ts';
import type { BpfMap } from '../kernel/map.ts';
import { addressSize, type Family } from '../lib/ip.ts';
import { openFamilyMap } from './open.ts';

export type { Endpoint } from '../abi/generated.ts';

export interface EndpointRow {
  /** Network order. */
  addr: Uint8Array;
  endpoint: Endpoint;
}

/** The pinned endpoints. Throws E_NO_MAPS, E_LAYOUT. */
export function listEndpoints(bpffs: string, family: Family): EndpointRow[] {
  const key = { size: addressSize(family), fields: {} };
  using map = openFamilyMap(bpffs, family, 'endpoints', { key, value: layouts[family].endpoint });
  return readEndpoints(map, family);
}

export function readEndpoints(map: BpfMap, family: Family): EndpointRow[] {
  const layout = layouts[family].endpoint;
  return map.readAll().map(([addr, value]) => ({ addr, endpoint: decode(layout, value) }));
}

/** Writes a whole row: what is not given becomes 0. */
export function setEndpoint(
  map: BpfMap,
  family: Family,
  addr: Uint8Array,
  endpoint: Partial<Endpoint>,
): void {
  map.update(addr, encode(layouts[family].endpoint, endpoint));
}

/** False when there was none. */
export function deleteEndpoint(map: BpfMap, addr: Uint8Array): boolean {
  return map.delete(addr);
}
