import type { BpfMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { backendAddressCodec } from '../tables/backend-addresses.ts';
import {
  deleteBackendTables,
  putBackendTables,
  readBackendTables,
} from '../tables/backend-tables.ts';
import { backendCodec } from '../tables/backends.ts';
import { revNatCodec } from '../tables/rev-nat.ts';
import { deleteRows, type RowCodec, readRows, writeRows } from '../tables/row-map.ts';
import { forgetServiceCounts } from '../tables/service-counts.ts';
import { serviceCodec } from '../tables/services.ts';
import { sourceRangeCodec } from '../tables/source-ranges.ts';
import type { TableRecord } from './table-record.ts';
import type { RowStore, ServiceTables } from './tables.ts';

/** The maps of one family; `open` gives a map by the name of its pin. */
export function kernelTables(
  family: Family,
  open: (name: string) => BpfMap,
  record: TableRecord,
): ServiceTables {
  return {
    services: rowStore(open('services'), serviceCodec(family)),
    backends: rowStore(open('backends'), backendCodec(family)),
    addresses: rowStore(open('backend_addresses'), backendAddressCodec(family)),
    revNat: rowStore(open('rev_nat'), revNatCodec(family)),
    ranges: rowStore(open('source_ranges'), sourceRangeCodec(family)),
    backendTables: tableStore(family, open('backend_tables'), record),
    forget: (gone) => forgetServiceCounts(open('service_counts'), family, gone),
  };
}

/** What is in a table is recorded once it is in place: another map's record is nobody's. */
function tableStore(
  family: Family,
  map: BpfMap,
  record: TableRecord,
): ServiceTables['backendTables'] {
  return {
    async read() {
      const placed = await readBackendTables(map, family);
      const digests = await record.read();
      return placed.map(({ mapId, ...key }) => ({ ...key, digest: digests.get(mapId) }));
    },
    async put(tables) {
      const placed = await putBackendTables(map, family, tables);
      await record.write(placed.map((row, i) => ({ ...row, digest: tables[i]?.digest ?? '' })));
    },
    async remove(keys) {
      await deleteBackendTables(map, family, keys);
      await record.remove(keys);
    },
  };
}

function rowStore<Row>(map: BpfMap, codec: RowCodec<Row>): RowStore<Row> {
  return {
    read: () => readRows(map, codec),
    set: (rows) => writeRows(map, codec, rows),
    remove: async (rows) => void (await deleteRows(map, codec, rows)),
  };
}
