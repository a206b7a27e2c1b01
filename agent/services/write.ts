import { FAMILIES, type Family } from '../lib/ip.ts';
import { TABLE_BATCH } from '../tables/backend-tables.ts';
import type { FamilyChanges } from './diff.ts';
import type { TableBuilder } from './table-builder.ts';
import type { AllTables } from './tables.ts';

export type Changes = Readonly<Record<Family, FamilyChanges>>;

/**
 * Brings the maps from one state to another. At no instant does one row name another that is not
 * there: what is named comes first, what names it goes first. A service changes over when its
 * table, or its frontend, is replaced, each of which is one step.
 */
export async function writeChanges(
  changes: Changes,
  tables: AllTables,
  build: TableBuilder,
): Promise<void> {
  for (const family of FAMILIES) await setRows(family, changes[family], tables, build);
  for (const family of FAMILIES) await removeRows(changes[family], tables[family]);
}

async function setRows(
  family: Family,
  changes: FamilyChanges,
  allTables: AllTables,
  build: TableBuilder,
): Promise<void> {
  const tables = allTables[family];
  const { addresses, revNat, ranges, services } = changes;
  await tables.addresses.set(addresses.set);
  await putTables(changes, tables, build);
  await tables.revNat.set(revNat.set);
  await tables.ranges.set(ranges.set);
  // pods look for their own row only where the other one says that it is there
  await tables.services.set(services.set.toSorted((a, b) => b.scope - a.scope));
  await tables.services.remove(services.remove.toSorted((a, b) => a.scope - b.scope));
  await tables.ranges.remove(ranges.remove);
}

/** Backends as their tables are ready: those of the next ones are built meanwhile. */
async function putTables(
  { tables: { set: wanted }, backends: { set: backends } }: FamilyChanges,
  tables: AllTables[Family],
  build: TableBuilder,
): Promise<void> {
  const ends = new Map(backends.map(({ service_id }, i) => [service_id, i + 1]));
  let written = 0;
  for await (const built of build(wanted, TABLE_BATCH)) {
    const end = Math.max(written, ...built.map(({ serviceId }) => ends.get(serviceId) ?? 0));
    await tables.backends.set(backends.slice(written, end));
    written = end;
    await tables.backendTables.put(built);
  }
  await tables.backends.set(backends.slice(written));
}

async function removeRows(changes: FamilyChanges, tables: AllTables[Family]): Promise<void> {
  const { backends, addresses, revNat, tables: backendTables, goneServices } = changes;
  await tables.revNat.remove(revNat.remove);
  await tables.backendTables.remove(backendTables.remove);
  await tables.backends.remove(backends.remove);
  await tables.addresses.remove(addresses.remove);
  if (goneServices.length === 0 && backends.remove.length === 0) return;
  await tables.forget({
    services: new Set(goneServices),
    backends: new Set(backends.remove.map(({ id }) => id)),
  });
}

/** How many rows are written or removed. */
export function countChanges(changes: Changes): number {
  let total = 0;
  for (const family of FAMILIES) {
    const { services, backends, tables, revNat, ranges, addresses } = changes[family];
    for (const { set, remove } of [services, backends, tables, revNat, ranges, addresses]) {
      total += set.length + remove.length;
    }
  }
  return total;
}
