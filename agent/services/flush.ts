import { layouts } from '../abi/generated.ts';
import type { ForceReap, ScrubbedTable } from '../engine/scrub.ts';
import { walk } from '../engine/walk.ts';
import type { Family } from '../lib/ip.ts';

const SVC = 4;

/** What has gone from the maps of a family. */
export interface Gone {
  /** Of `rev_nat`. */
  indexes: ReadonlySet<number>;
  /** Backends of everything but TCP, which ends its connections by itself. */
  backends: ReadonlySet<number>;
}

/**
 * Deletes the service entries of what has gone: nothing believes them, and without them the next
 * packet of a flow chooses again at once. Resolves with their number.
 */
export async function flushGone(
  tables: readonly ScrubbedTable[],
  gone: Readonly<Record<Family, Gone>>,
  reap: ForceReap,
): Promise<number> {
  let deleted = 0;
  for (const table of tables) {
    const { indexes, backends } = gone[table.family];
    const flows = table.table === 'ct_any' ? backends : new Set<number>();
    if (table.table === 'snat' || indexes.size + flows.size === 0) continue;
    deleted += await flushTable(table, { indexes, backends: flows }, reap);
  }
  return deleted;
}

async function flushTable(table: ScrubbedTable, gone: Gone, reap: ForceReap): Promise<number> {
  const { family, keySize, valueSize } = table;
  const { kind } = layouts[family].tuple.fields;
  const { rev_nat_index, backend_id } = layouts[family].ct_entry.fields;
  let deleted = 0;
  for await (const { keys, values, count } of walk(table)) {
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    const matched = new Uint8Array(count * keySize);
    let found = 0;
    for (let i = 0; i < count; i++) {
      if (keys[i * keySize + kind.offset] !== SVC) continue;
      const index = view.getUint16(i * valueSize + rev_nat_index.offset, true);
      const backend = view.getUint32(i * valueSize + backend_id.offset, true);
      if (!gone.indexes.has(index) && !gone.backends.has(backend)) continue;
      matched.set(keys.subarray(i * keySize, (i + 1) * keySize), found++ * keySize);
    }
    if (found > 0) deleted += await reap(family, table.table, matched, found);
  }
  return deleted;
}
