import { join } from 'node:path';
import { layouts, table_slot } from '../abi/generated.ts';
import type { Layout } from '../abi/layout.ts';
import { type BpfMap, mapById, openPinnedMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { type ConnectionTable, OUTER_SUFFIX, PREVIOUS_SUFFIX, STAGED_SUFFIX } from './names.ts';
import { openFamilyMap, requireLayout } from './open.ts';

/** Keys of the slots of an outer map. */
export const CURRENT = slotKey(table_slot.TABLE_CURRENT);
export const PREVIOUS = slotKey(table_slot.TABLE_PREVIOUS);

/** The maps that hold a connection table together. */
export interface TableSlots extends Disposable {
  current: BpfMap;
  /** What a resize has not copied yet; set only while one is under way. */
  previous: BpfMap | undefined;
}

/**
 * Opens a connection table: what stands in the slots of its outer map, or the table's own pin
 * where there is no outer map. Throws E_NO_MAPS, E_LAYOUT, and E_PRIVILEGE where a slot holds a
 * map that no pin leads to (by id: CAP_SYS_ADMIN).
 */
export function openSlots(
  bpffs: string,
  family: Family,
  table: ConnectionTable,
  value: Layout,
): TableSlots {
  const layout = { key: layouts[family].tuple, value };
  const pinned = openFamilyMap(bpffs, family, table, layout);
  using stack = new DisposableStack();
  const slots = stack.use(slotsAt(join(bpffs, family, table), pinned));
  for (const map of [slots.current, slots.previous]) {
    if (map) requireLayout(map, `${table} of ${family}`, layout);
  }
  stack.move();
  return slots;
}

/**
 * The maps in the slots of the table pinned at `path`, whatever they hold: `pinned` itself where
 * it is one of them, or there is no outer map. Takes `pinned` over.
 */
export function slotsAt(path: string, pinned: BpfMap): TableSlots {
  using stack = new DisposableStack();
  stack.use(pinned);
  using outer = openPinnedMap(path + OUTER_SUFFIX);
  const slot = (key: Uint8Array) => {
    const id = outer?.lookupId(key);
    if (id === undefined) return undefined;
    if (id === pinned.id) return pinned;
    const map = openMap(id, path);
    return map && stack.use(map);
  };
  const current = slot(CURRENT) ?? pinned;
  const previous = slot(PREVIOUS);
  const owned = stack.move();
  return {
    current,
    previous: previous?.id === current.id ? undefined : previous,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/**
 * The map with an id that one of the slots of the table pinned at `path` holds: by a pin, where
 * one leads to it.
 */
export function openMap(id: number, path: string): BpfMap | undefined {
  for (const suffix of ['', STAGED_SUFFIX, PREVIOUS_SUFFIX]) {
    const map = openPinnedMap(path + suffix);
    if (map?.id === id) return map;
    map?.close();
  }
  return mapById(id);
}

function slotKey(number: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(number).buffer);
}
