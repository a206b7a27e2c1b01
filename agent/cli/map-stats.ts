import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { sharedPins } from '../engine/pins.ts';
import { openPinnedMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { FAMILIES } from '../lib/ip.ts';
import { countEntries } from '../tables/connections.ts';
import type { Counters } from '../tables/counters.ts';
import { readCounters } from '../tables/counters.ts';
import { CONNECTION_TABLES, type ConnectionTable } from '../tables/names.ts';
import { slotsAt, type TableSlots } from '../tables/slots.ts';

export interface MapStats {
  /** Path of the pin below `state.bpffs`, e.g. `ipv4/ct_tcp`. */
  name: string;
  type: string;
  /** Null where they cannot be counted: a ring buffer's records. */
  entries: number | null;
  /** Entries it can hold; bytes in a ring buffer. */
  capacity: number;
  /** Entries in percent of the capacity; null where every element always exists, or none. */
  pressure: number | null;
  /** Bytes of kernel memory. */
  memory: number;
  /** Entries that the datapath ever created; null where nobody counts. */
  created: number | null;
  /** Of those, how many left without being deleted. */
  evicted: number | null;
}

/**
 * Figures of every pinned map; entries are counted by walking. A table that is being resized has
 * the size and the memory of its new map, and the entries of both; the old one, until it is empty,
 * has a line of its own.
 */
export async function readMapStats(bpffs: string): Promise<MapStats[]> {
  const stats: MapStats[] = [];
  for (const family of FAMILIES) stats.push(...(await familyStats(bpffs, family)));
  for (const path of sharedPins(bpffs).toSorted()) {
    const map = openPinnedMap(path);
    if (!map) continue;
    using slots = slotsAt(path, map);
    stats.push(await statsOf(basename(path), slots));
  }
  return stats;
}

/**
 * Counts the entries of a table, and those that vanished: created before, neither deleted until
 * the end nor there. What comes and goes meanwhile hides some, and makes up none.
 */
export async function countTurnover(
  table: ConnectionTable,
  count: () => Promise<number>,
  counters: () => Counters,
): Promise<{ entries: number; created: number; evicted: number }> {
  const created = counters().created[table];
  const entries = await count();
  const deleted = counters().deleted[table];
  return { entries, created, evicted: Math.max(0, created - deleted - entries) };
}

async function familyStats(bpffs: string, family: Family): Promise<MapStats[]> {
  const directory = join(bpffs, family);
  if (!existsSync(directory)) return [];
  using counters = openPinnedMap(join(directory, 'counters'));
  const read = counters && (() => readCounters(counters));
  const stats: MapStats[] = [];
  const shown = new Set<number>();
  for (const pin of readdirSync(directory).sort(byLength)) {
    const path = join(directory, pin);
    const map = openPinnedMap(path);
    if (!map) continue;
    using slots = slotsAt(path, map);
    const { current } = slots;
    if (shown.has(current.id)) continue;
    shown.add(current.id);
    stats.push(await statsOf(`${family}/${pin}`, slots, read));
  }
  return stats.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A pin that only stands by comes after the one that it stands by. */
function byLength(a: string, b: string): number {
  return a.length - b.length;
}

async function statsOf(
  name: string,
  slots: TableSlots,
  counters?: () => Counters,
): Promise<MapStats> {
  const { current: map } = slots;
  const table = CONNECTION_TABLES.find((known) => name.endsWith(`/${known}`));
  const { entries, created, evicted } =
    table && counters
      ? await countTurnover(table, () => countEntries(slots), counters)
      : { entries: await entriesOf(slots), created: null, evicted: null };
  const counted = entries !== null && !map.type.includes('array');
  return {
    name,
    type: map.type,
    entries,
    capacity: map.maxEntries,
    pressure: counted ? Math.round((10_000 * entries) / map.maxEntries) / 100 : null,
    memory: map.memory(),
    created,
    evicted,
  };
}

async function entriesOf(slots: TableSlots): Promise<number | null> {
  const { current: map } = slots;
  if (map.type === 'ringbuf') return null;
  if (map.type === 'array_of_maps') {
    const slots = Array.from({ length: map.maxEntries }, (_, slot) => Uint32Array.of(slot));
    return slots.filter(({ buffer }) => map.lookupId(new Uint8Array(buffer)) !== undefined).length;
  }
  return map.type.includes('array') ? map.maxEntries : await countEntries(slots);
}
