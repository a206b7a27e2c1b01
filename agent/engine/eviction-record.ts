import type { MapShape } from '../kernel/map.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { CONNECTION_TABLES, type ConnectionTable } from '../tables/names.ts';
import { evictionsPin } from './pins.ts';
import { openRecord } from './record.ts';

const SLOTS = FAMILIES.length * CONNECTION_TABLES.length;
const SHAPE: MapShape = {
  ...{ name: 'evictions', type: 'array', keySize: 4, valueSize: 8, maxEntries: SLOTS },
};

/** Evictions that were told of each table, for the next start: as old as the tables. */
export interface EvictionRecord {
  /** 0 where none were told. */
  read(family: Family, table: ConnectionTable): number;
  write(family: Family, table: ConnectionTable, count: number): void;
}

/** Opens what is pinned below `bpffs`, which must be there, or pins it. */
export function openEvictionRecord(bpffs: string): EvictionRecord & Disposable {
  const map = openRecord(evictionsPin(bpffs), SHAPE);
  return {
    read(family, table) {
      const value = map.lookup(slotOf(family, table));
      return value ? Number(new DataView(value.buffer).getBigUint64(0, true)) : 0;
    },
    write(family, table, count) {
      map.update(slotOf(family, table), new Uint8Array(BigUint64Array.of(BigInt(count)).buffer));
    },
    [Symbol.dispose]: () => map.close(),
  };
}

function slotOf(family: Family, table: ConnectionTable): Uint8Array {
  const slot =
    FAMILIES.indexOf(family) * CONNECTION_TABLES.length + CONNECTION_TABLES.indexOf(table);
  return new Uint8Array(Uint32Array.of(slot).buffer);
}
