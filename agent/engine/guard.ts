import { flow_class } from '../abi/generated.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { KeyGroup, sift } from './key-group.ts';
import type { CollectedTable, PassTools } from './pass.ts';

/** Of a table's capacity: as many new entries, and LRU may come round to the old ones. */
const SHARE = 1 / 8;
/** Connections that are remembered; with more, they are looked for in the table each time. */
const REMEMBERED = 1 << 18;

/**
 * Keeps LRU off the connections that must stay while others are making room: it marks them as
 * recently used, by a look from the program at each and at both of its NAT halves. LRU evicts them
 * only after everything else that came since.
 */
export interface Guard {
  /**
   * Marks them, unless too little has come since the last time to matter. With `fresh` the table is
   * gone through; otherwise it is those that were found then.
   */
  keep(fresh?: boolean): Promise<void>;
}

/** `tables` answers with those of one family. */
export function createGuard(tables: () => readonly CollectedTable[], tools: PassTools): Guard {
  const marks = new Map<ConnectionTable, number>();
  const known: { keys: Uint8Array; count: number }[] = [];
  let complete = false;

  const created = (table: CollectedTable) => tools.turnover(table.family, table.table).created;
  const isDue = (table: CollectedTable) =>
    created(table) - (marks.get(table.table) ?? -Infinity) >= SHARE * table.capacity;

  async function find(table: CollectedTable): Promise<void> {
    let remembered = 0;
    const group = new KeyGroup(table.keySize, (keys, count) => {
      remembered += count;
      if (remembered <= REMEMBERED)
        known.push({ keys: keys.slice(0, count * table.keySize), count });
      return touch(table, keys, count);
    });
    const now = tools.now();
    await sift(table, (keys, key, values, value) => {
      const stays =
        values.getUint32(value + table.expiresOffset, true) > now &&
        table.classOf(keys, key, values, value) >= flow_class.FLOW_OPENING;
      return stays ? group : undefined;
    });
    await group.flush();
    complete = remembered <= REMEMBERED;
  }

  const touch = (table: CollectedTable, keys: Uint8Array, count: number) =>
    tools.reap(table.family, table.table, keys, count, { mode: 'relief' });

  return {
    async keep(fresh = false) {
      const own = tables();
      const connections = own.find(({ table }) => table === 'ct_tcp');
      if (!connections || !own.some(isDue)) return;
      for (const table of own) marks.set(table.table, created(table));
      if (fresh || !complete) {
        known.length = 0;
        return find(connections);
      }
      for (const { keys, count } of known) await touch(connections, keys, count);
    },
  };
}
