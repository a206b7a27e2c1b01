import assert from 'node:assert/strict';
import { service_flag } from '../../agent/abi/generated.ts';
import { FAMILIES, type Family, sameBytes } from '../../agent/lib/ip.ts';
import { TABLE_SIZE } from '../../agent/services/maglev.ts';
import type { BuiltTable, RowStore, ServiceTables } from '../../agent/services/tables.ts';
import {
  type BackendAddressRow,
  backendAddressText,
} from '../../agent/tables/backend-addresses.ts';
import { type BackendRow, backendText } from '../../agent/tables/backends.ts';
import { type RevNatRow, revNatText } from '../../agent/tables/rev-nat.ts';
import type { GoneIds } from '../../agent/tables/service-counts.ts';
import { type ServiceRow, serviceKeyText, serviceText } from '../../agent/tables/services.ts';
import { type SourceRangeRow, sourceRangeText } from '../../agent/tables/source-ranges.ts';

/** The maps of services of one family, in memory: rows by their key. */
interface FamilyMemory {
  services: Map<string, ServiceRow>;
  backends: Map<string, BackendRow>;
  addresses: Map<string, BackendAddressRow>;
  revNat: Map<string, RevNatRow>;
  ranges: Map<string, SourceRangeRow>;
  backendTables: Map<string, Omit<BuiltTable, 'ids'> & { ids: Set<number> }>;
  forgotten: GoneIds[];
}

export interface MemoryServices {
  tables: Record<Family, ServiceTables>;
  memory: Record<Family, FamilyMemory>;
  /** Rows that were written or removed so far. */
  writes(): number;
  /** The state in text, for comparisons; tables by the digest of what is in them. */
  text(): string[];
}

/** `onWrite` is called after every single row; what it throws is the end of the writer. */
export function memoryServices(
  onWrite: (memory: MemoryServices) => void = () => {},
): MemoryServices {
  let writes = 0;
  const wrote = () => {
    writes++;
    onWrite(services);
  };
  const memory = { ipv4: familyMemory(), ipv6: familyMemory() };
  const services: MemoryServices = {
    memory,
    tables: { ipv4: tablesOf(memory.ipv4, wrote), ipv6: tablesOf(memory.ipv6, wrote) },
    writes: () => writes,
    text: () => FAMILIES.flatMap((family) => textOf(memory[family]).map((t) => `${family} ${t}`)),
  };
  return services;
}

/** What the datapath takes for granted, whatever row it comes across. */
export function assertNothingDangles({ memory }: MemoryServices): void {
  for (const family of FAMILIES) {
    const { services, backends, addresses, revNat, ranges, backendTables } = memory[family];
    for (const row of services.values()) {
      const text = `${serviceKeyText(row)} -> ${serviceText(row)}`;
      if (row.backends > 0) {
        assert.ok(backendTables.has(`${row.id} ${row.scope}`), `no table for ${text}`);
      }
      if (row.flags & service_flag.SERVICE_TWO_SCOPES) {
        assert.ok(services.has(serviceKeyText({ ...row, scope: 1 })), `no inner row for ${text}`);
      }
      if (row.flags & service_flag.SERVICE_SOURCE_RANGES) {
        const own = [...ranges.values()].some(({ serviceId }) => serviceId === row.id);
        assert.ok(own, `no range for ${text}`);
      }
      if (row.flags & service_flag.SERVICE_ANY_PORT) continue;
      const back = revNat.get(`${row.rev_nat_index}`);
      assert.ok(back && sameBytes(back.addr, row.addr), `no way back for ${text}`);
      assert.equal(back.port, row.port);
    }
    for (const { serviceId, ids } of backendTables.values()) {
      for (const id of ids) {
        const backend = backends.get(`${id}`);
        assert.equal(backend?.service_id, serviceId, `backend ${id} of service ${serviceId}`);
        const address = addresses.get(backendAddressText(backend));
        assert.ok((address?.count ?? 0) > 0, `no address of backend ${id}`);
      }
    }
  }
}

function familyMemory(): FamilyMemory {
  return {
    services: new Map(),
    backends: new Map(),
    addresses: new Map(),
    revNat: new Map(),
    ranges: new Map(),
    backendTables: new Map(),
    forgotten: [],
  };
}

function tablesOf(memory: FamilyMemory, wrote: () => void): ServiceTables {
  const store = <Row>(rows: Map<string, Row>, key: (row: Row) => string): RowStore<Row> => ({
    read: async () => [...rows.values()],
    async set(list) {
      for (const row of list) {
        rows.set(key(row), row);
        wrote();
      }
    },
    async remove(list) {
      for (const row of list) {
        rows.delete(key(row));
        wrote();
      }
    },
  });
  const { backendTables } = memory;
  const keyOf = ({ serviceId, scope }: { serviceId: number; scope: number }) =>
    `${serviceId} ${scope}`;
  return {
    services: store(memory.services, serviceKeyText),
    backends: store(memory.backends, ({ id }) => `${id}`),
    addresses: store(memory.addresses, backendAddressText),
    revNat: store(memory.revNat, ({ index }) => `${index}`),
    ranges: store(memory.ranges, sourceRangeText),
    backendTables: {
      read: async () => [...backendTables.values()].map(({ ids: _, ...row }) => row),
      async put(tables) {
        for (const table of tables) {
          assert.equal(table.ids.length, TABLE_SIZE);
          backendTables.set(keyOf(table), { ...table, ids: new Set(table.ids) });
          wrote();
        }
      },
      async remove(keys) {
        for (const key of keys) {
          backendTables.delete(keyOf(key));
          wrote();
        }
      },
    },
    forget: async (gone) => void memory.forgotten.push(gone),
  };
}

function textOf(memory: FamilyMemory): string[] {
  const { services, backends, addresses, revNat, ranges, backendTables } = memory;
  return [
    ...[...services.values()].map((row) => `${serviceKeyText(row)} -> ${serviceText(row)}`),
    ...[...backends.values()].map((row) => `backend ${row.id} ${backendText(row)}`),
    ...[...addresses].map(([text, { count }]) => `address ${text} ${count}`),
    ...[...revNat.values()].map((row) => `rev_nat ${row.index} ${revNatText(row)}`),
    ...[...ranges.keys()].map((text) => `range ${text}`),
    ...[...backendTables].map(([key, { digest }]) => `table ${key} ${digest}`),
  ].sort();
}
