import { FAMILIES, type Family } from '../lib/ip.ts';
import { type BackendAddressRow, backendAddressText } from '../tables/backend-addresses.ts';
import type { AddressRows, AllRows } from './diff.ts';
import { countAddresses } from './diff.ts';
import type { FoundRows } from './ids.ts';
import { type PartRows, rowsKey } from './rows.ts';
import type { AllTables, ServiceTables } from './tables.ts';

/** What is in the maps. */
export interface Found {
  rows: AllRows;
  addresses: Record<Family, AddressRows>;
  ids: Record<Family, FoundRows>;
}

/**
 * Reads what an earlier run left, by service id. Where that run was cut short, the numbers of
 * backends at an address are put right: they are counted, not written as a whole.
 */
export async function readFound(tables: AllTables): Promise<Found> {
  const rows = new Map<string, PartRows>();
  const ids = {} as Record<Family, FoundRows>;
  for (const family of FAMILIES) {
    const read = await readFamily(family, tables[family], rows);
    ids[family] = read;
  }
  const addresses = countAddresses(rows.values());
  for (const family of FAMILIES) await repairAddresses(tables[family], addresses[family]);
  return { rows, addresses, ids };
}

type Growing = {
  -readonly [Key in keyof PartRows]: PartRows[Key] extends readonly (infer Row)[]
    ? Row[]
    : PartRows[Key];
};

async function readFamily(
  family: Family,
  tables: ServiceTables,
  into: Map<string, PartRows>,
): Promise<FoundRows> {
  const parts = new Map<number, Growing>();
  const partOf = (serviceId: number) => {
    const there = parts.get(serviceId);
    if (there) return there;
    const part: Growing = {
      ...{ family, serviceId },
      ...{ services: [], backends: [], revNat: [], ranges: [], tables: [] },
    };
    parts.set(serviceId, part);
    into.set(rowsKey(part), part);
    return part;
  };
  const services = await tables.services.read();
  const backends = await tables.backends.read();
  const revNat = await tables.revNat.read();
  for (const row of services) partOf(row.id).services.push(row);
  for (const row of backends) partOf(row.service_id).backends.push(row);
  for (const row of revNat) partOf(row.service_id).revNat.push(row);
  for (const row of await tables.ranges.read()) partOf(row.serviceId).ranges.push(row);
  for (const row of await tables.backendTables.read()) partOf(row.serviceId).tables.push(row);
  return { services, backends, revNat };
}

async function repairAddresses(tables: ServiceTables, counted: AddressRows): Promise<void> {
  const there = new Map<string, BackendAddressRow>();
  for (const row of await tables.addresses.read()) there.set(backendAddressText(row), row);
  const wrong = [...counted].filter(([text, { count }]) => there.get(text)?.count !== count);
  const stale = [...there].filter(([text]) => !counted.has(text));
  if (wrong.length > 0) await tables.addresses.set(wrong.map(([, row]) => row));
  if (stale.length > 0) await tables.addresses.remove(stale.map(([, row]) => row));
}
