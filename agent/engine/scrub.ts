import { type Family, familyOf, sameBytes } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { type WalkedTable, walk } from './walk.ts';

/** A table to scrub; `natAddressOffset` is where an `snat` value holds its address. */
export interface ScrubbedTable extends WalkedTable {
  family: Family;
  table: ConnectionTable;
  natAddressOffset?: number;
}

/** Deletes keys, expired or not; resolves with the number deleted. */
export type ForceReap = (
  family: Family,
  table: ConnectionTable,
  keys: Uint8Array,
  count: number,
) => Promise<number>;

/**
 * Deletes every entry that names one of the addresses (4 or 16 bytes, network order) in its key
 * or, in `snat`, in its value: what an earlier owner of the address left behind must not be
 * taken for the new owner's. Resolves with the number of entries deleted.
 */
export async function scrubAddresses(
  tables: readonly ScrubbedTable[],
  addresses: readonly Uint8Array[],
  reap: ForceReap,
): Promise<number> {
  let deleted = 0;
  for (const table of tables) {
    const own = addresses.filter((address) => familyOf(address) === table.family);
    if (own.length > 0) deleted += await scrubTable(table, own, reap);
  }
  return deleted;
}

async function scrubTable(
  table: ScrubbedTable,
  addresses: readonly Uint8Array[],
  reap: ForceReap,
): Promise<number> {
  const { keySize, valueSize, natAddressOffset } = table;
  const names = addressMatcher(addresses);
  const size = addresses[0]?.length ?? 0;
  let deleted = 0;
  for await (const { keys, values, count } of walk(table)) {
    const matched = new Uint8Array(count * keySize);
    let found = 0;
    for (let i = 0; i < count; i++) {
      const key = i * keySize;
      const matches =
        names(keys, key) ||
        names(keys, key + size) ||
        (natAddressOffset !== undefined && names(values, i * valueSize + natAddressOffset));
      if (!matches) continue;
      matched.set(keys.subarray(key, key + keySize), found * keySize);
      found++;
    }
    if (found > 0) deleted += await reap(table.family, table.table, matched, found);
  }
  return deleted;
}

/** Tells whether one of the addresses stands at an offset; misses cost one look at 4 bytes. */
function addressMatcher(
  addresses: readonly Uint8Array[],
): (bytes: Uint8Array, offset: number) => boolean {
  const size = addresses[0]?.length ?? 0;
  const byTail = Map.groupBy(addresses, (address) => tailOf(address, 0, size));
  return (bytes, offset) => {
    const candidates = byTail.get(tailOf(bytes, offset, size));
    if (candidates === undefined) return false;
    const there = bytes.subarray(offset, offset + size);
    return candidates.some((address) => sameBytes(address, there));
  };
}

function tailOf(bytes: Uint8Array, offset: number, size: number): number {
  const at = offset + size - 4;
  const [a = 0, b = 0, c = 0, d = 0] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}
