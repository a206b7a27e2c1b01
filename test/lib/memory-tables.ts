import type { FamilyTables, RowTable } from '../../agent/engine/reconcile.ts';
import { type Family, formatAddress, formatPrefix } from '../../agent/lib/ip.ts';

/** Rows of both families as the maps of the datapath hold them, in memory. */
export function memoryTables(): Record<Family, FamilyTables> {
  return { ipv4: familyTables(), ipv6: familyTables() };
}

function familyTables(): FamilyTables {
  return {
    devices: memoryTable(({ ifindex }) => `${ifindex}`),
    endpoints: memoryTable(({ addr }) => formatAddress(addr)),
    prefixes: memoryTable(({ prefix }) => formatPrefix(prefix)),
    tunnelPeers: memoryTable(formatAddress),
  };
}

function memoryTable<Row>(keyOf: (row: Row) => string): RowTable<Row> {
  const rows = new Map<string, Row>();
  return {
    read: () => [...rows.values()],
    set: (row) => void rows.set(keyOf(row), row),
    remove: (row) => void rows.delete(keyOf(row)),
  };
}
