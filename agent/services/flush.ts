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
 * Deletes the entries that name what has gone: those of a frontend's connections, whose answers
 * nobody can translate, before its index is another's; those that lead to a backend, so that the
 * next packet chooses again. What is closing rests. Resolves with their number.
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
    if (indexes.size + flows.size === 0) continue;
    deleted += await flushTable(table, { indexes, backends: flows }, reap);
  }
  return deleted;
}

async function flushTable(table: ScrubbedTable, gone: Gone, reap: ForceReap): Promise<number> {
  const { family, keySize, valueSize } = table;
  const { kind } = layouts[family].tuple.fields;
  const names = entryMatcher(table, gone);
  let deleted = 0;
  for await (const { keys, values, count } of walk(table)) {
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    const matched = new Uint8Array(count * keySize);
    let found = 0;
    for (let i = 0; i < count; i++) {
      if (!names(view, i * valueSize, keys[i * keySize + kind.offset] === SVC)) continue;
      matched.set(keys.subarray(i * keySize, (i + 1) * keySize), found++ * keySize);
    }
    if (found > 0) deleted += await reap(family, table.table, matched, found);
  }
  return deleted;
}

/** Tells whether the entry at an offset names what has gone; most name nothing. */
function entryMatcher(
  { family, table }: ScrubbedTable,
  { indexes, backends }: Gone,
): (values: DataView, at: number, isService: boolean) => boolean {
  const { ct_entry, nat_entry } = layouts[family];
  const { offset } = (table === 'snat' ? nat_entry : ct_entry).fields.rev_nat_index;
  const { backend_id } = ct_entry.fields;
  return (values, at, isService) => {
    const index = values.getUint16(at + offset, true);
    if (index !== 0 && indexes.has(index)) return true;
    return isService && backends.has(values.getUint32(at + backend_id.offset, true));
  };
}
