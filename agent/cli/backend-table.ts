import { layouts, service_scope } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { readBackendTable } from '../tables/backend-tables.ts';
import { openFamilyMap } from '../tables/open.ts';

const MAP_ID = { size: 4, fields: {} };

const SCOPES = {
  external: service_scope.SERVICE_EXTERNAL,
  internal: service_scope.SERVICE_INTERNAL,
} as const;

/** Who asks for a service: the network, or a pod of this node. */
export type Scope = keyof typeof SCOPES;

/** Backend ids by slot: a connection's hash picks the slot. */
export type BackendTable = Uint32Array;

/** The table of a service; undefined where it has none. Throws E_NO_MAPS, E_LAYOUT. */
export function pinnedTable(
  bpffs: string,
  family: Family,
  serviceId: number,
  scope: Scope,
): BackendTable | undefined {
  const layout = { key: layouts[family].backend_table_key, value: MAP_ID };
  using outer = openFamilyMap(bpffs, family, 'backend_tables', layout);
  return readBackendTable(outer, family, { serviceId, scope: SCOPES[scope] });
}

/** How many slots each backend has, by id. */
export function countSlots(table: BackendTable): Map<number, number> {
  const slots = new Map<number, number>();
  for (const id of table) slots.set(id, (slots.get(id) ?? 0) + 1);
  return slots;
}
