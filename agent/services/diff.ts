import { setImmediate as nextTurn } from 'node:timers/promises';
import { diffRows, type RowChanges } from '../engine/rows.ts';
import type { Family } from '../lib/ip.ts';
import { type BackendAddressRow, backendAddressText } from '../tables/backend-addresses.ts';
import { type BackendRow, backendText } from '../tables/backends.ts';
import { type RevNatRow, revNatText } from '../tables/rev-nat.ts';
import { type ServiceRow, serviceKeyText, serviceText } from '../tables/services.ts';
import { type SourceRangeRow, sourceRangeText } from '../tables/source-ranges.ts';
import type { PartRows, TableRow } from './rows.ts';

/** What turns the maps of a family into others. */
export interface FamilyChanges {
  services: RowChanges<ServiceRow>;
  backends: RowChanges<BackendRow>;
  addresses: RowChanges<BackendAddressRow>;
  tables: RowChanges<TableRow>;
  revNat: RowChanges<RevNatRow>;
  ranges: RowChanges<SourceRangeRow>;
  /** Ids that nobody has any more. */
  goneServices: number[];
}

/** Rows by `rowsKey`. */
export type AllRows = ReadonlyMap<string, PartRows>;
/** Rows of `backend_addresses` by their text. */
export type AddressRows = Map<string, BackendAddressRow>;

/** Parts that are compared before others have a turn. */
const AT_A_TIME = 512;
const NONE: Omit<PartRows, 'family' | 'serviceId'> = {
  services: [],
  backends: [],
  revNat: [],
  ranges: [],
  tables: [],
};

/** Compares part by part, with turns for others; the same object on both sides costs nothing. */
export async function diffParts(
  desired: AllRows,
  actual: AllRows,
  addresses: Record<Family, AddressRows>,
): Promise<Record<Family, FamilyChanges>> {
  const differences = { ipv4: newDifference(), ipv6: newDifference() };
  let compared = 0;
  for (const [key, rows] of desired) {
    const before = actual.get(key);
    if (rows === before) continue;
    compare(rows, before ?? { ...rows, ...NONE }, differences[rows.family]);
    if (++compared % AT_A_TIME === 0) await nextTurn();
  }
  for (const [key, rows] of actual) {
    if (desired.has(key)) continue;
    const difference = differences[rows.family];
    compare({ ...rows, ...NONE }, rows, difference);
    difference.changes.goneServices.push(rows.serviceId);
    if (++compared % AT_A_TIME === 0) await nextTurn();
  }
  return {
    ipv4: finish(differences.ipv4, addresses.ipv4),
    ipv6: finish(differences.ipv6, addresses.ipv6),
  };
}

/** The rows of those that are still asked for, or whose frontend another one is to take over. */
export function withoutGone(actual: AllRows, desired: AllRows): AllRows {
  const keys = (rows: PartRows) =>
    rows.services.map((row) => `${rows.family} ${serviceKeyText(row)}`);
  const wanted = new Set(Array.from(desired.values(), keys).flat());
  return new Map(
    Array.from(actual).filter(
      ([key, rows]) => desired.has(key) || keys(rows).some((frontend) => wanted.has(frontend)),
    ),
  );
}

/** From one state to another, both included, with so many other parts each time. */
export function* stepsBetween(
  from: AllRows,
  to: AllRows,
  size: number,
): Generator<AllRows, void, undefined> {
  yield from;
  const rows = new Map(from);
  let changed = 0;
  for (const [key, part] of to) {
    rows.set(key, part);
    if (++changed % size === 0) yield new Map(rows);
  }
  yield to;
}

/** How many backends have each address. */
export function countAddresses(rows: Iterable<PartRows>): Record<Family, AddressRows> {
  const counts: Record<Family, AddressRows> = { ipv4: new Map(), ipv6: new Map() };
  for (const { family, backends } of rows) count(backends, 1, counts[family]);
  return counts;
}

interface Difference {
  changes: FamilyChanges;
  /** By how much the number of backends at an address differs. */
  deltas: AddressRows;
}

function newDifference(): Difference {
  const none = () => ({ set: [], remove: [] });
  const changes: FamilyChanges = {
    ...{ services: none(), backends: none(), addresses: none(), tables: none() },
    ...{ revNat: none(), ranges: none(), goneServices: [] },
  };
  return { changes, deltas: new Map() };
}

function compare(after: PartRows, before: PartRows, { changes, deltas }: Difference): void {
  add(changes.services, after.services, before.services, serviceKeyText, serviceText);
  add(changes.backends, after.backends, before.backends, ({ id }) => `${id}`, backendText);
  add(changes.tables, after.tables, before.tables, ({ scope }) => `${scope}`, tableText);
  add(changes.revNat, after.revNat, before.revNat, ({ index }) => `${index}`, revNatText);
  add(changes.ranges, after.ranges, before.ranges, sourceRangeText, () => '');
  count(after.backends, 1, deltas);
  count(before.backends, -1, deltas);
}

function add<Row>(
  changes: RowChanges<Row>,
  after: readonly Row[],
  before: readonly Row[],
  key: (row: Row) => string,
  text: (row: Row) => string,
): void {
  const { set, remove } = diffRows(after, before, key, text);
  for (const row of set) changes.set.push(row);
  for (const row of remove) changes.remove.push(row);
}

/** A table of which nobody knows what is in it is like no other. */
function tableText({ digest }: TableRow): string {
  return digest ?? '';
}

function count(backends: readonly BackendRow[], by: number, counts: AddressRows): void {
  for (const { addr, port, proto } of backends) {
    const text = backendAddressText({ addr, port, proto });
    const there = counts.get(text);
    if (there) there.count += by;
    else counts.set(text, { addr, port, proto, count: by });
  }
}

/** A frontend that goes from one service to another stays where it is. */
function finish({ changes, deltas }: Difference, addresses: AddressRows): FamilyChanges {
  changes.services.remove = without(changes.services, serviceKeyText);
  changes.revNat.remove = without(changes.revNat, ({ index }) => `${index}`);
  for (const [text, row] of deltas) {
    if (row.count === 0) continue;
    const count = (addresses.get(text)?.count ?? 0) + row.count;
    if (count > 0) changes.addresses.set.push({ ...row, count });
    else changes.addresses.remove.push(row);
  }
  return changes;
}

function without<Row>({ set, remove }: RowChanges<Row>, key: (row: Row) => string): Row[] {
  const kept = new Set(set.map(key));
  return remove.filter((row) => !kept.has(key(row)));
}
