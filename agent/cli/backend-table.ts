import { encode } from '../abi/codec.ts';
import { backend_table_size, layouts, service_scope } from '../abi/generated.ts';
import { mapById } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { openFamilyMap } from '../tables/open.ts';

const { BACKEND_TABLE_SIZE } = backend_table_size;
const OUTER = { key: layouts.ipv4.backend_table_key, value: { size: 4, fields: {} } };

/** Who asks for a service. */
export const SCOPES = ['external', 'internal'] as const;
export type Scope = (typeof SCOPES)[number];

const SCOPE_NUMBER: Readonly<Record<Scope, number>> = {
  external: service_scope.SERVICE_EXTERNAL,
  internal: service_scope.SERVICE_INTERNAL,
};

/** Backend ids by slot: a connection's hash picks the slot. */
export type BackendTable = Uint32Array;

/** The table of a service; undefined where it has none. Throws E_NO_MAPS, E_LAYOUT. */
export function readBackendTable(
  bpffs: string,
  family: Family,
  service: number,
  scope: Scope,
): BackendTable | undefined {
  using outer = openFamilyMap(bpffs, family, 'backend_tables', OUTER);
  const key = { service_id: service, scope: SCOPE_NUMBER[scope] };
  const id = outer.lookupId(encode(OUTER.key, key));
  using table = id === undefined ? undefined : mapById(id);
  const value = table?.lookup(new Uint8Array(4));
  return value && new Uint32Array(value.buffer, value.byteOffset, BACKEND_TABLE_SIZE);
}

/** How many slots each backend has, by id. */
export function countSlots(table: BackendTable): Map<number, number> {
  const slots = new Map<number, number>();
  for (const id of table) slots.set(id, (slots.get(id) ?? 0) + 1);
  return slots;
}
