import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layouts } from '../../agent/abi/generated.ts';
import { mapMemory, SIZED_TABLES } from '../../agent/engine/sizing.ts';
import { createMap } from '../../agent/kernel/map.ts';
import { FAMILIES } from '../../agent/lib/ip.ts';
import { isOlderThan, skipReason } from './sandbox.ts';

const SIZES = [1024, 1025, 65_536, 100_000];
const VALUES = { ctTcp: 'ct_entry', ctAny: 'ct_entry', nat: 'nat_entry' } as const;
/** What the kernel keeps for each CPU is not reckoned with. */
const TOLERANCE = 0.02;
const skip = skipReason || (isOlderThan(6, 4) && 'before Linux 6.4 a map tells less than it takes');

test('tables take the memory that sizing reckons with', { skip }, () => {
  for (const family of FAMILIES) {
    for (const table of SIZED_TABLES) {
      for (const maxEntries of SIZES) {
        const { tuple, [VALUES[table]]: value } = layouts[family];
        const shape = { keySize: tuple.size, valueSize: value.size, maxEntries };
        using map = createMap({ type: 'lru_hash', name: table, ...shape });
        const [real, reckoned] = [map.memory(), mapMemory(table, family, maxEntries)];
        const apart = Math.abs(real - reckoned) / real;
        assert.ok(
          apart <= TOLERANCE,
          `${family}/${table} of ${maxEntries}: ${real}, not ${reckoned}`,
        );
      }
    }
  }
});
