import type { Family } from '../lib/ip.ts';
import type { BackendAddressRow } from '../tables/backend-addresses.ts';
import type {
  BackendTableKey,
  FoundBackendTable,
  NewBackendTable,
} from '../tables/backend-tables.ts';
import type { BackendRow } from '../tables/backends.ts';
import type { RevNatRow } from '../tables/rev-nat.ts';
import type { ServiceRow } from '../tables/services.ts';
import type { SourceRangeRow } from '../tables/source-ranges.ts';

/** A map as typed rows, which are written in their order. */
export interface RowStore<Row> {
  read(): Promise<Row[]>;
  set(rows: readonly Row[]): Promise<void>;
  remove(rows: readonly Row[]): Promise<void>;
}

/** The maps of services, of one family. */
export interface ServiceTables {
  services: RowStore<ServiceRow>;
  backends: RowStore<BackendRow>;
  addresses: RowStore<BackendAddressRow>;
  revNat: RowStore<RevNatRow>;
  ranges: RowStore<SourceRangeRow>;
  backendTables: {
    read(): Promise<FoundBackendTable[]>;
    /** TABLE_BATCH at most. */
    put(tables: readonly NewBackendTable[]): Promise<void>;
    remove(keys: readonly BackendTableKey[]): Promise<void>;
  };
  /** Forgets what was counted under ids that have no owner any more. */
  forget(gone: { services: ReadonlySet<number>; backends: ReadonlySet<number> }): Promise<void>;
}

export type AllTables = Readonly<Record<Family, ServiceTables>>;
