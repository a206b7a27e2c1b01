import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from '../engine/logger.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { backendAddressText } from '../tables/backend-addresses.ts';
import { allParts, type Compiled } from './compile.ts';
import { type AddressRows, diffParts } from './diff.ts';
import type { Gone } from './flush.ts';
import { readFound } from './found.ts';
import type { IdRecord } from './id-record.ts';
import { createIds, type Ids, type NextIds, type PartIds } from './ids.ts';
import type { Part } from './parts.ts';
import { PROTOCOLS } from './prepare.ts';
import { addressRows, type PartRows, partRows, rowsKey } from './rows.ts';
import type { TableBuilder } from './table-builder.ts';
import type { AllTables } from './tables.ts';
import { type Changes, countChanges, writeChanges } from './write.ts';

/** Parts whose rows are worked out before others have a turn. */
const AT_A_TIME = 256;

export interface ReconcilerParts {
  tables: AllTables;
  record: IdRecord;
  build: TableBuilder;
  /** Deletes the connections' entries of what has gone; resolves with their number. */
  flush(gone: Record<Family, Gone>): Promise<number>;
  logger: Logger;
}

/** What the datapath serves now. */
export interface Served {
  ids: ReadonlyMap<Part, PartIds>;
  /** Parts for which no index of `rev_nat` was left. */
  full: readonly Part[];
  /** Rows that were written or removed for it. */
  changes: number;
}

export interface ServiceReconciler {
  /** Makes the maps what was compiled; the same again writes nothing. One call at a time. */
  apply(compiled: Compiled): Promise<Served>;
}

interface Actual {
  rows: ReadonlyMap<string, PartRows>;
  addresses: Record<Family, AddressRows>;
}

/**
 * Applies what is compiled to the maps, from what an earlier run left in them on. What was read
 * or written is known from then on; after a failure the maps are read again.
 */
export function createReconciler(parts: ReconcilerParts): ServiceReconciler {
  const { tables, record, build, flush, logger } = parts;
  const rowsOf = new WeakMap<PartIds, PartRows>();
  let ids: Ids | undefined;
  let actual: Actual | undefined;

  async function desiredRows(compiled: Compiled, given: ReadonlyMap<Part, PartIds>) {
    const desired = new Map<string, PartRows>();
    for (const [part, partIds] of given) {
      const rows = rowsOf.get(partIds) ?? partRows(part, partIds);
      rowsOf.set(partIds, rows);
      desired.set(rowsKey(rows), rows);
      if (desired.size % AT_A_TIME === 0) await nextTurn();
    }
    for (const family of FAMILIES) {
      const rows = addressRows(compiled.addresses, family);
      desired.set(rowsKey(rows), rows);
    }
    return desired;
  }

  return {
    async apply(compiled) {
      const found = actual ? undefined : await readFound(tables);
      const before = actual ?? found;
      if (!before) throw new TypeError('nothing was read');
      if (!ids) {
        if (!found) throw new TypeError('ids come from what was read');
        ids = createIds(found.ids, record.read());
      }
      const next = ids.next();
      const assigned = ids.assign(allParts(compiled));
      if (!sameIds(next, ids.next())) record.write(ids.next());
      const desired = await desiredRows(compiled, assigned.ids);
      const changes = await diffParts(desired, before.rows, before.addresses);
      actual = undefined;
      await writeChanges(changes, tables, build);
      updateAddresses(before.addresses, changes);
      actual = { rows: desired, addresses: before.addresses };
      const gone = goneOf(changes);
      if (FAMILIES.some((family) => gone[family].indexes.size + gone[family].backends.size > 0)) {
        const deleted = await flush(gone);
        if (deleted > 0)
          logger.info({ deleted }, 'entries of removed services and backends deleted');
      }
      return { ...assigned, changes: countChanges(changes) };
    },
  };
}

function sameIds(a: NextIds, b: NextIds): boolean {
  const { service, backend, ipv4, ipv6 } = b;
  return a.service === service && a.backend === backend && a.ipv4 === ipv4 && a.ipv6 === ipv6;
}

/** In place: there may be a hundred thousand. */
function updateAddresses(addresses: Actual['addresses'], changes: Changes): void {
  for (const family of FAMILIES) {
    const { set, remove } = changes[family].addresses;
    for (const row of set) addresses[family].set(backendAddressText(row), row);
    for (const row of remove) addresses[family].delete(backendAddressText(row));
  }
}

function goneOf(changes: Changes): Record<Family, Gone> {
  const gone = (family: Family): Gone => {
    const { revNat, backends } = changes[family];
    const others = backends.remove.filter(({ proto }) => proto !== PROTOCOLS.TCP);
    return {
      indexes: new Set(revNat.remove.map(({ index }) => index)),
      backends: new Set(others.map(({ id }) => id)),
    };
  };
  return { ipv4: gone('ipv4'), ipv6: gone('ipv6') };
}
