import { isDeepStrictEqual } from 'node:util';
import { counter, layouts } from '../abi/generated.ts';
import type { Field } from '../abi/layout.ts';
import { SekishoError } from '../lib/errors.ts';
import { addressSize, type Family } from '../lib/ip.ts';

/** Bytes and named fields of a key or a value. */
export interface Shape {
  readonly size: number;
  readonly fields: Readonly<Record<string, Field>>;
}

/** What the entries of a map look like. The value of `counters` is the whole array. */
export interface TableLayout {
  readonly key: Shape;
  readonly value: Shape;
}

/** Bytes that keep their meaning, from one layout's value to another's. */
export interface Run {
  from: number;
  to: number;
  size: number;
}

/** How a map with one layout becomes one with another. */
export type TablePlan =
  | { kind: 'adopt' }
  /** Entries move, field by field; `lost` fields have no place any more. */
  | { kind: 'carry'; runs: Run[]; lost: string[] }
  /** Made anew: nothing in it is worth keeping, or the reconciler fills it. */
  | { kind: 'anew' }
  | { kind: 'refuse'; reason: string };

/**
 * What a map's entries are worth. `kept`: every field, what the datapath remembers. `desired`:
 * the reconciler writes whole rows, but must see the old ones. `counted`: figures that may start
 * at zero. `anew`: filled before any program reads it, or a cache.
 */
type Worth = 'kept' | 'desired' | 'counted' | 'anew';

type Struct = keyof (typeof layouts)['ipv4'];

interface TableSpec {
  key: Struct | 'address' | 'index' | 'none';
  value: Struct | 'counters' | 'count' | 'index';
  worth: Worth;
}

const TABLES: Readonly<Record<string, TableSpec>> = {
  ct_tcp: { key: 'tuple', value: 'ct_entry', worth: 'kept' },
  ct_any: { key: 'tuple', value: 'ct_entry', worth: 'kept' },
  snat: { key: 'tuple', value: 'nat_entry', worth: 'kept' },
  family_state: { key: 'index', value: 'family_state', worth: 'kept' },
  endpoints: { key: 'address', value: 'endpoint', worth: 'desired' },
  counters: { key: 'index', value: 'counters', worth: 'counted' },
  prefixes: { key: 'prefix_key', value: 'prefix', worth: 'anew' },
  devices: { key: 'index', value: 'device', worth: 'anew' },
  nat_full: { key: 'tuple', value: 'nat_full', worth: 'anew' },
  services: { key: 'service_key', value: 'service', worth: 'desired' },
  backends: { key: 'index', value: 'backend', worth: 'desired' },
  rev_nat: { key: 'index', value: 'rev_nat', worth: 'desired' },
  backend_addresses: { key: 'backend_address', value: 'index', worth: 'anew' },
  backend_tables: { key: 'backend_table_key', value: 'backend_table', worth: 'anew' },
  source_ranges: { key: 'source_range_key', value: 'index', worth: 'anew' },
  affinity: { key: 'affinity_key', value: 'affinity', worth: 'kept' },
  service_counts: { key: 'service_count_key', value: 'count', worth: 'anew' },
  tunnel_peers: { key: 'index', value: 'index', worth: 'anew' },
  events: { key: 'none', value: 'event', worth: 'anew' },
};

/** Without it the reconciler takes every address for a new one, and deletes its connections. */
const OWNER = 'ifindex';
const COUNTER_SIZE = 8;

/** The layout that this version gives a map, by the name of its pin. */
export function tableLayout(family: Family, name: string): TableLayout {
  const { key, value } = specOf(name);
  return {
    key: shapeOf(family, key),
    value: value === 'counters' ? countersShape() : shapeOf(family, value),
  };
}

/**
 * Decides what becomes of a map. `before` is undefined for a map that no record describes: then
 * its sizes tell whether it has this version's layout.
 */
export function planTable(
  name: string,
  sizes: { keySize: number; valueSize: number; maxEntries: number },
  before: TableLayout | undefined,
  after: TableLayout,
): TablePlan {
  const { worth } = specOf(name);
  if (before ? isDeepStrictEqual(before, after) : fits(name, sizes, after))
    return { kind: 'adopt' };
  if (worth === 'anew') return { kind: 'anew' };
  const sameKeys = before && isDeepStrictEqual(before.key, after.key);
  if (worth === 'counted') return sameKeys ? carry(before.value, after.value) : { kind: 'anew' };
  if (!before) return refuse('its layout is not known');
  if (!sameKeys) return refuse('its keys differ');
  const plan = carry(before.value, after.value);
  const missing = worth === 'kept' ? plan.lost : plan.lost.filter((field) => field === OWNER);
  return missing.length > 0 ? refuse(`${missing.join(', ')} would be lost`) : plan;
}

/** Writes `count` values of one layout, back to back, as values of another; the rest is zero. */
export function carryValues(
  values: Uint8Array,
  count: number,
  sizes: { before: number; after: number },
  runs: readonly Run[],
): Uint8Array {
  const carried = new Uint8Array(count * sizes.after);
  for (let i = 0; i < count; i++) {
    const [source, target] = [i * sizes.before, i * sizes.after];
    for (const { from, to, size } of runs) {
      carried.set(values.subarray(source + from, source + from + size), target + to);
    }
  }
  return carried;
}

function carry(before: Shape, after: Shape): Extract<TablePlan, { kind: 'carry' }> {
  const runs: Run[] = [];
  const lost: string[] = [];
  for (const [name, field] of Object.entries(before.fields)) {
    const there = after.fields[name];
    if (there && isSameKind(field, there)) {
      runs.push({ from: field.offset, to: there.offset, size: field.size });
    } else lost.push(name);
  }
  return { kind: 'carry', runs: joined(runs), lost };
}

function isSameKind(a: Field, b: Field): boolean {
  return a.size === b.size && a.kind === b.kind && a.count === b.count;
}

/** Neighbours that stay neighbours move together. */
function joined(runs: Run[]): Run[] {
  const result: Run[] = [];
  for (const run of runs.toSorted((a, b) => a.from - b.from)) {
    const last = result.at(-1);
    const follows = last && last.from + last.size === run.from && last.to + last.size === run.to;
    if (follows) last.size += run.size;
    else result.push({ ...run });
  }
  return result;
}

function refuse(reason: string): TablePlan {
  return { kind: 'refuse', reason };
}

function fits(
  name: string,
  { keySize, valueSize, maxEntries }: { keySize: number; valueSize: number; maxEntries: number },
  { key, value }: TableLayout,
): boolean {
  const size = specOf(name).worth === 'counted' ? valueSize * maxEntries : valueSize;
  return keySize === key.size && size === value.size;
}

function specOf(name: string): TableSpec {
  const spec = TABLES[name];
  if (!spec) throw new SekishoError('E_INTERNAL', `no layout is known for map ${name}`);
  return spec;
}

function shapeOf(
  family: Family,
  struct: TableSpec['key'] | Exclude<TableSpec['value'], 'counters'>,
): Shape {
  if (struct === 'none') return { size: 0, fields: {} };
  if (struct === 'count') return { size: COUNTER_SIZE, fields: {} };
  if (struct === 'address') return { size: addressSize(family), fields: {} };
  if (struct === 'index') return { size: 4, fields: {} };
  const { size, fields } = layouts[family][struct];
  return { size, fields };
}

/** A field for each base of `enum counter`, up to the next one. */
function countersShape(): Shape {
  const bases = Object.entries(counter).sort(([, a], [, b]) => a - b);
  const fields = bases.slice(0, -1).map(([name, base], i): [string, Field] => {
    const count = (bases[i + 1]?.[1] ?? base) - base;
    const [offset, size] = [base * COUNTER_SIZE, count * COUNTER_SIZE];
    return [name, { offset, size, kind: 'u64', count }];
  });
  return { size: counter.COUNTER_COUNT * COUNTER_SIZE, fields: Object.fromEntries(fields) };
}
