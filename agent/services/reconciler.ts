import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from '../engine/logger.ts';
import { E2BIG, ENOSPC } from '../kernel/error.ts';
import { KernelError } from '../lib/errors.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { backendAddressText } from '../tables/backend-addresses.ts';
import { allParts, type Compiled } from './compile.ts';
import { type AllRows, diffParts, stepsBetween, withoutGone } from './diff.ts';
import type { Gone } from './flush.ts';
import { type Found, readFound } from './found.ts';
import type { IdRecord } from './id-record.ts';
import { type Assigned, createIds, type Ids, type NextIds, type PartIds } from './ids.ts';
import type { Part } from './parts.ts';
import { PROTOCOLS } from './prepare.ts';
import { addressRows, type PartRows, partRows, rowsKey } from './rows.ts';
import type { TableBuilder } from './table-builder.ts';
import type { AllTables } from './tables.ts';
import { type Changes, countChanges, writeChanges } from './write.ts';

/** Parts whose rows are worked out before others have a turn. */
const AT_A_TIME = 256;
/** Parts that are changed at once where there is little room. */
const STEP = 64;

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
  /** Rows that were written or removed for it. */
  changes: number;
}

export interface ServiceReconciler {
  /** Makes the maps what was compiled; the same again writes nothing. One call at a time. */
  apply(compiled: Compiled): Promise<Served>;
}

/** What is known of the maps. */
type Actual = Pick<Found, 'rows' | 'addresses'>;

/**
 * Applies what is compiled to the maps, from what an earlier run left in them on. What was read
 * or written is known from then on; after a failure the maps are read again.
 */
export function createReconciler(parts: ReconcilerParts): ServiceReconciler {
  const { tables, record, build, flush, logger } = parts;
  const rowsOf = new WeakMap<PartIds, PartRows>();
  let ids: Ids | undefined;
  let actual: Actual | undefined;

  /** Reads the maps, where nothing is known of them. */
  async function known(): Promise<{ before: Actual; ids: Ids }> {
    if (actual && ids) return { before: actual, ids };
    const found = await readFound(tables);
    ids ??= createIds(found.ids, record.read());
    return { before: found, ids };
  }

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

  async function change(desired: AllRows, { rows, addresses }: Actual): Promise<number> {
    const changes = await diffParts(desired, rows, addresses);
    actual = undefined;
    await writeChanges(changes, tables, build);
    updateAddresses(addresses, changes);
    actual = { rows: desired, addresses };
    const gone = goneOf(changes);
    if (FAMILIES.some((family) => gone[family].indexes.size + gone[family].backends.size > 0)) {
      const deleted = await flush(gone);
      if (deleted > 0) logger.info({ deleted }, 'entries of removed services and backends deleted');
    }
    return countChanges(changes);
  }

  /** Where old and new rows do not fit beside each other: what nobody asks for goes first. */
  async function changeInSteps(desired: AllRows): Promise<number> {
    let before: Actual = await readFound(tables);
    const staying = withoutGone(before.rows, desired);
    let total = 0;
    for (const rows of stepsBetween(staying, desired, STEP)) {
      total += await change(rows, before);
      before = { ...before, rows };
    }
    return total;
  }

  async function pass(compiled: Compiled): Promise<Served & Pick<Assigned, 'waiting'>> {
    const isFirst = ids === undefined;
    const { before, ids: given } = await known();
    const next = given.next();
    const assigned = given.assign(allParts(compiled));
    if (!sameIds(next, given.next())) record.write(given.next());
    const desired = await desiredRows(compiled, assigned.ids);
    const changes = await change(desired, before).catch((error) => {
      if (!isFull(error)) throw error;
      return changeInSteps(desired);
    });
    if (isFirst) await forgetOthers(tables, assigned.ids);
    return { ...assigned, changes };
  }

  return {
    async apply(compiled) {
      const { waiting, ...served } = await pass(compiled);
      if (waiting.length === 0) return served;
      const { ids, changes } = await pass(compiled);
      return { ids, changes: served.changes + changes };
    },
  };
}

/** What an earlier run removed, and was cut short before it forgot what was counted there. */
async function forgetOthers(tables: AllTables, ids: ReadonlyMap<Part, PartIds>): Promise<void> {
  const services = new Set(Array.from(ids.values(), ({ service }) => service));
  const backends = new Set(Array.from(ids.values(), (own) => own.backends).flat());
  const others = (used: ReadonlySet<number>) => ({ has: (id: number) => !used.has(id) });
  for (const family of FAMILIES) {
    await tables[family].forget({ services: others(services), backends: others(backends) });
  }
}

/** A hash says one of the two, a trie the other. */
function isFull(error: unknown): boolean {
  return error instanceof KernelError && (error.errno === E2BIG || error.errno === ENOSPC);
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
