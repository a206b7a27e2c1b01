import type { Family } from '../lib/ip.ts';
import type { BackendAddressRow } from '../tables/backend-addresses.ts';
import type { BackendTableKey, NewBackendTable } from '../tables/backend-tables.ts';
import type { BackendRow } from '../tables/backends.ts';
import type { RevNatRow } from '../tables/rev-nat.ts';
import type { GoneIds } from '../tables/service-counts.ts';
import type { ServiceRow } from '../tables/services.ts';
import type { SourceRangeRow } from '../tables/source-ranges.ts';

/** A map as typed rows, which are written in their order. */
export interface RowStore<Row> {
  read(): Promise<Row[]>;
  set(rows: readonly Row[]): Promise<void>;
  remove(rows: readonly Row[]): Promise<void>;
}

/** A table that is there; the digest is undefined where nobody knows what is in it. */
export interface FoundTable extends BackendTableKey {
  digest: string | undefined;
}

/** A table that was built, and the digest of what it was built from. */
export interface BuiltTable extends NewBackendTable {
  digest: string;
}

/** The maps of services, of one family. */
export interface ServiceTables {
  services: RowStore<ServiceRow>;
  backends: RowStore<BackendRow>;
  addresses: RowStore<BackendAddressRow>;
  revNat: RowStore<RevNatRow>;
  ranges: RowStore<SourceRangeRow>;
  backendTables: {
    read(): Promise<FoundTable[]>;
    /** TABLE_BATCH at most. */
    put(tables: readonly BuiltTable[]): Promise<void>;
    remove(keys: readonly BackendTableKey[]): Promise<void>;
  };
  /** Forgets what was counted under the ids. */
  forget(gone: GoneIds): Promise<void>;
}

export type AllTables = Readonly<Record<Family, ServiceTables>>;
