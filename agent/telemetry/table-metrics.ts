import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Counters } from '../tables/counters.ts';
import { CONNECTION_TABLES, type ConnectionTable } from '../tables/names.ts';
import type { Maker } from './maker.ts';

export interface TableSources {
  /** Entries a connection table can hold. */
  capacity(family: Family, table: ConnectionTable): number;
  /** False while a resize has entries in two maps. */
  isSettled(family: Family, table: ConnectionTable): boolean;
  /** Evictions that were told last, which outlive the daemon as the tables do. */
  evictions: {
    read(family: Family, table: ConnectionTable): number;
    write(family: Family, table: ConnectionTable, count: number): void;
  };
  /** Counters of a family's datapath, for a scrape. */
  counters(family: Family): Counters;
  /** The same, as they are now. */
  countersNow(family: Family): Counters;
}

/** A table whose entries were counted one by one. */
export interface Counted {
  family: Family;
  table: ConnectionTable;
  /** Entries that are there, where nobody has taken some since. */
  alive?: number;
  /** Entries that LRU took since the table was made, at least. */
  evicted: number;
}

/**
 * How full tables are: what the datapath has created and not deleted, less what LRU is known to
 * have taken. Nothing is told of a table before it was counted for the first time. Counters that
 * are younger than the entries say impossible things, and then it is the count that tells.
 */
export function tableMetrics(make: Maker, sources: TableSources): (counted: Counted) => void {
  const { capacity, counters, countersNow } = sources;
  const known = knownEvictions(sources);
  const surplus = new Map<string, number>();
  const eachCounted = (
    visit: (labels: { map: string }, figures: Figures, capacity: number) => void,
  ) =>
    eachTable((family, table, map) => {
      const more = surplus.get(map);
      if (more === undefined) return;
      const balance = balanceOf(counters(family), table);
      const evicted = known(family, table, balance);
      const most = capacity(family, table);
      visit({ map }, { evicted, entries: clamp(balance - evicted + more, most) }, most);
    });

  make.reading('map_capacity', 'Entries a map can hold.', ['map'], (set) =>
    eachTable((family, table, map) => set({ map }, capacity(family, table))),
  );
  const help = 'Entries: created, and neither deleted nor known to be evicted.';
  make.reading('map_entries', help, ['map'], (set) =>
    eachCounted((labels, { entries }) => set(labels, entries)),
  );
  make.reading('map_pressure', 'Entries by capacity, 0 to 1.', ['map'], (set) =>
    eachCounted((labels, { entries }, most) => set(labels, entries / most)),
  );
  make.mirror('map_evictions_total', 'Entries that LRU took.', ['map'], (set) =>
    eachCounted((labels, { evicted }) => set(labels, evicted)),
  );

  return ({ family, table, alive, evicted: found }) => {
    const now = countersNow(family);
    const expected = balanceOf(now, table) - known(family, table, balanceOf(now, table), found);
    const map = `${family}/${table}`;
    const isUncounted = alive !== undefined && (expected < 0 || alive > now.created[table]);
    if (isUncounted) surplus.set(map, alive - expected);
    else if (alive !== undefined || !surplus.has(map)) surplus.set(map, 0);
  };
}

interface Figures {
  entries: number;
  evicted: number;
}

/**
 * Evictions are what was created, less what was deleted, less what is there: `balance` less the
 * capacity at least, and what a count found. Of such lower bounds the highest is told, so that it
 * never falls, and is exact once a count met a table at rest. What an earlier run told counts,
 * unless it is more than can have been: then the counters were made anew.
 */
function knownEvictions({ capacity, isSettled, evictions }: TableSources) {
  const told = new Map<string, number>();
  return (family: Family, table: ConnectionTable, balance: number, found = 0): number => {
    const map = `${family}/${table}`;
    let before = told.get(map);
    if (before === undefined) {
      const recorded = evictions.read(family, table);
      before = recorded <= balance ? recorded : 0;
    }
    const beyond = isSettled(family, table) ? balance - capacity(family, table) : 0;
    const now = Math.max(before, found, beyond);
    if (told.get(map) !== now) evictions.write(family, table, now);
    told.set(map, now);
    return now;
  };
}

function balanceOf({ created, deleted }: Counters, table: ConnectionTable): number {
  return created[table] - deleted[table];
}

function clamp(entries: number, most: number): number {
  return Math.max(0, Math.min(entries, most));
}

/** Visits every connection table with the path of its pin. */
export function eachTable(
  visit: (family: Family, table: ConnectionTable, map: string) => void,
): void {
  for (const family of FAMILIES) {
    for (const table of CONNECTION_TABLES) visit(family, table, `${family}/${table}`);
  }
}
