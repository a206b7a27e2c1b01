import { layouts } from '../abi/generated.ts';
import type { Datapath } from '../engine/datapath.ts';
import type { CollectedTable } from '../engine/pass.ts';
import type { FamilyTables } from '../engine/reconcile.ts';
import { rowTables as familyRowTables } from '../engine/row-tables.ts';
import type { ScrubbedTable } from '../engine/scrub.ts';
import type { BpfMap } from '../kernel/map.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { CONNECTION_TABLES, type ConnectionTable } from '../tables/names.ts';

/** The maps that hold rows, of both families. */
export function rowTables(datapath: Datapath): Record<Family, FamilyTables> {
  const ofFamily = (family: Family) =>
    familyRowTables(family, (name) => datapath.map(family, name));
  return { ipv4: ofFamily('ipv4'), ipv6: ofFamily('ipv6') };
}

/** The connection tables of both families, as collector and scrub walk them. */
export function connectionTables(datapath: Datapath): (CollectedTable & ScrubbedTable)[] {
  return FAMILIES.flatMap((family) =>
    CONNECTION_TABLES.map((table) => connectionTable(family, table, datapath.map(family, table))),
  );
}

/** One connection table, as collector and scrub walk it. */
export function connectionTable(
  family: Family,
  table: ConnectionTable,
  map: BpfMap,
): CollectedTable & ScrubbedTable {
  const { ct_entry, nat_entry } = layouts[family];
  const offsets =
    table === 'snat'
      ? {
          expiresOffset: nat_entry.fields.expires.offset,
          natAddressOffset: nat_entry.fields.addr.offset,
        }
      : { expiresOffset: ct_entry.fields.expires.offset };
  const { keySize, valueSize, maxEntries: capacity } = map;
  const lookupBatch = (size?: number) => map.lookupBatch(size);
  return { family, table, capacity, keySize, valueSize, lookupBatch, ...offsets };
}
