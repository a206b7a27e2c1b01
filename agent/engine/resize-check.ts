import { SekishoError } from '../lib/errors.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { LEAST_SIZE, MOST_SIZE, mapMemory, SIZED_TABLES, type SizedTable } from './sizing.ts';

/** Entries that each table of each family can hold, by `family/table`. */
export type Capacities = Readonly<Record<`${Family}/${SizedTable}`, number>>;

/** One table that is to have another size. */
export interface SizeChange {
  family: Family;
  table: SizedTable;
  entries: number;
  /** Entries that it holds at present. */
  held: number;
}

/**
 * Nodes that LRU fetches at once and leaves lying on the free list of each CPU: so many entries
 * fewer can a table hold before it evicts (older kernels take as many in small tables, too).
 */
const FREE_LIST = 128;

/** Bytes of all tables. The old map of a table that is being resized does not count. */
export function memoryOf(capacities: Capacities): number {
  return everyTable().reduce(
    (bytes, [family, table]) => bytes + mapMemory(table, family, capacities[`${family}/${table}`]),
    0,
  );
}

/** The least size of a table that evicts none of `held` entries. */
export function leastFor(held: number, cpus: number): number {
  return Math.max(LEAST_SIZE, held + FREE_LIST * cpus);
}

/**
 * Throws when tables cannot have the sizes that are asked for: E_USAGE for a size that no table
 * has, E_CONFLICT for one below what is held, or above what `bound` bytes allow all tables
 * together. A change that takes less memory than before is never above the bound.
 */
export function checkSizes(
  changes: readonly SizeChange[],
  { capacities, bound, cpus }: { capacities: Capacities; bound: number; cpus: number },
): void {
  for (const { family, table, entries, held } of changes) {
    if (entries < LEAST_SIZE || entries > MOST_SIZE) {
      throw new SekishoError('E_USAGE', `${entries} is no size of a table`, {
        hint: `a whole number from ${LEAST_SIZE} to ${MOST_SIZE}`,
      });
    }
    const least = leastFor(held, cpus);
    if (entries >= least) continue;
    throw new SekishoError(
      'E_CONFLICT',
      `${family}/${table} holds ${held} entries, which ${entries} cannot keep`,
      { hint: `at least ${least}; sekisho gc run deletes what has expired` },
    );
  }
  const after = { ...capacities };
  for (const { family, table, entries } of changes) after[`${family}/${table}`] = entries;
  const [before, bytes] = [memoryOf(capacities), memoryOf(after)];
  if (bytes <= Math.max(bound, before)) return;
  throw new SekishoError(
    'E_CONFLICT',
    `the tables would take ${mebibytes(bytes)} of memory, more than maps.maxMemoryRatio allows`,
    { hint: `the bound is ${mebibytes(bound)}, they take ${mebibytes(before)}` },
  );
}

/** The most entries that a table can have within `bound` bytes, the others as they are. */
export function mostWithin(
  bound: number,
  capacities: Capacities,
  family: Family,
  table: SizedTable,
): number {
  const fits = (entries: number) =>
    memoryOf({ ...capacities, [`${family}/${table}`]: entries }) <= bound;
  let [low, high] = [0, MOST_SIZE];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

function everyTable(): [Family, SizedTable][] {
  return FAMILIES.flatMap((family) =>
    SIZED_TABLES.map((table): [Family, SizedTable] => [family, table]),
  );
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
