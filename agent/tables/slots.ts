import { join } from 'node:path';
import { layouts, table_slot } from '../abi/generated.ts';
import type { Layout } from '../abi/layout.ts';
import { type BpfMap, mapById, openPinnedMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { type ConnectionTable, OUTER_SUFFIX } from './names.ts';
import { openFamilyMap, requireLayout } from './open.ts';

/** The maps that hold a connection table together. */
export interface TableSlots extends Disposable {
  current: BpfMap;
  /** What a resize has not copied yet; set only while one is under way. */
  previous: BpfMap | undefined;
}

/**
 * Opens a connection table: what stands in the slots of its outer map, or the table's own pin
 * where there is no outer map. Throws E_NO_MAPS, E_LAYOUT, and E_PRIVILEGE where a table that is
 * being resized cannot be opened whole (by id: CAP_SYS_ADMIN).
 */
export function openSlots(
  bpffs: string,
  family: Family,
  table: ConnectionTable,
  value: Layout,
): TableSlots {
  using stack = new DisposableStack();
  const layout = { key: layouts[family].tuple, value };
  const pinned = stack.use(openFamilyMap(bpffs, family, table, layout));
  using outer = openPinnedMap(join(bpffs, family, table + OUTER_SUFFIX));
  const slot = (number: number) => {
    const id = outer?.lookupId(slotKey(number));
    if (id === undefined) return undefined;
    if (id === pinned.id) return pinned;
    const map = mapById(id);
    return map && stack.use(requireLayout(map, `${table} of ${family}`, layout));
  };
  const current = slot(table_slot.TABLE_CURRENT) ?? pinned;
  const previous = slot(table_slot.TABLE_PREVIOUS);
  const owned = stack.move();
  return {
    current,
    previous: previous === current ? undefined : previous,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function slotKey(number: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(number).buffer);
}
