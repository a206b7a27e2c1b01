import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Counters } from '../tables/counters.ts';
import { CONNECTION_TABLES, type ConnectionTable } from '../tables/names.ts';
import type { Maker } from './maker.ts';

export interface TableSources {
  /** Entries a connection table can hold. */
  capacity(family: Family, table: ConnectionTable): number;
  /** Counters of a family's datapath, for a scrape. */
  counters(family: Family): Counters;
  /** The same, as they are now. */
  countersNow(family: Family): Counters;
}

/** A table whose entries were counted one by one. */
export interface Counted {
  family: Family;
  table: ConnectionTable;
  alive: number;
  /** Entries that LRU took since the table was made, at least. */
  evicted: number;
}

/** What is known of a table since it was last counted. */
interface Book {
  /** Entries beyond those that its counters know of. */
  surplus: number;
  evicted: number;
}

/**
 * How full tables are: as they were last counted, and what the datapath has created and deleted
 * since. What that makes too many for the table, LRU must have taken.
 */
export function tableMetrics(make: Maker, sources: TableSources): (counted: Counted) => void {
  const books = new Map<string, Book>();
  const eachBook = (visit: (map: string, book: Book, count: number, capacity: number) => void) =>
    eachTable((family, table, map) => {
      const book = books.get(map);
      if (!book) return;
      const count = Math.max(0, net(sources.counters(family), table) + book.surplus);
      visit(map, book, count, sources.capacity(family, table));
    });

  make.reading('map_capacity', 'Entries a map can hold.', ['map'], (set) =>
    eachTable((family, table, map) => set({ map }, sources.capacity(family, table))),
  );
  const help = 'Entries: as last counted, with what was created and deleted since.';
  make.reading('map_entries', help, ['map'], (set) =>
    eachBook((map, _, count, capacity) => set({ map }, Math.min(count, capacity))),
  );
  make.reading('map_pressure', 'Entries by capacity, 0 to 1.', ['map'], (set) =>
    eachBook((map, _, count, capacity) => set({ map }, Math.min(count, capacity) / capacity)),
  );
  const told = new Map<string, number>();
  make.mirror('map_evictions_total', 'Entries that LRU took.', ['map'], (set) =>
    eachBook((map, { evicted }, count, capacity) => {
      const known = Math.max(told.get(map) ?? 0, evicted + Math.max(0, count - capacity));
      told.set(map, known);
      set({ map }, known);
    }),
  );

  return ({ family, table, alive, evicted }) => {
    const surplus = alive - net(sources.countersNow(family), table);
    books.set(`${family}/${table}`, { surplus, evicted });
  };
}

function net({ created, deleted }: Counters, table: ConnectionTable): number {
  return created[table] - deleted[table];
}

/** Visits every connection table with the path of its pin. */
export function eachTable(
  visit: (family: Family, table: ConnectionTable, map: string) => void,
): void {
  for (const family of FAMILIES) {
    for (const table of CONNECTION_TABLES) visit(family, table, `${family}/${table}`);
  }
}
