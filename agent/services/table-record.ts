import { serviceTablesPin } from '../engine/pins.ts';
import { openRecord } from '../engine/record.ts';
import type { BpfMap, MapShape } from '../kernel/map.ts';
import { MAP_FLAGS } from '../kernel/map-types.ts';
import type { BackendTableKey, PlacedTable } from '../tables/backend-tables.ts';
import { readIndex, writeIndex } from '../tables/index-key.ts';
import { deleteRows, type RowCodec, readRows, writeRows } from '../tables/row-map.ts';

/** Of both families: no two services have the same id. */
const SHAPE: MapShape = {
  name: 'service_tables',
  type: 'hash',
  keySize: 8,
  valueSize: 12,
  maxEntries: 262_144,
  flags: MAP_FLAGS.noPrealloc,
};

/** A table that is in place, and the digest of what is in it. */
export interface RecordedTable extends PlacedTable {
  digest: string;
}

/**
 * What is in each table of backends: to look into one takes a privilege that the daemon does not
 * have. A row counts for the map that it names, so one that was not written in time is nobody's.
 */
export interface TableRecord {
  /** Digests by the id of the map. */
  read(): Promise<Map<number, string>>;
  write(tables: readonly RecordedTable[]): Promise<void>;
  remove(keys: readonly BackendTableKey[]): Promise<void>;
}

/** Opens what is pinned below `bpffs`, which must be there, or pins it. */
export function openTableRecord(bpffs: string): TableRecord & Disposable {
  const map = openRecord(serviceTablesPin(bpffs), SHAPE);
  return { ...tableRecord(map), [Symbol.dispose]: () => map.close() };
}

function tableRecord(map: BpfMap): TableRecord {
  return {
    async read() {
      const rows = await readRows(map, CODEC);
      return new Map(rows.map(({ mapId, digest }) => [mapId, digest]));
    },
    write: (tables) => writeRows(map, CODEC, tables),
    async remove(keys) {
      await deleteRows(
        map,
        CODEC,
        keys.map((key) => ({ ...key, mapId: 0, digest: '' })),
      );
    },
  };
}

const CODEC: RowCodec<RecordedTable> = {
  keySize: SHAPE.keySize,
  valueSize: SHAPE.valueSize,
  writeKey({ serviceId, scope }, bytes, at) {
    writeIndex(serviceId, bytes, at);
    writeIndex(scope, bytes, at + 4);
  },
  writeValue({ mapId, digest }, bytes, at) {
    writeIndex(mapId, bytes, at);
    writeIndex(Number.parseInt(digest.slice(0, 8), 16), bytes, at + 4);
    writeIndex(Number.parseInt(digest.slice(8), 16), bytes, at + 8);
  },
  read(keys, k, values, v) {
    const half = (offset: number) =>
      readIndex(values, v + offset)
        .toString(16)
        .padStart(8, '0');
    return {
      serviceId: readIndex(keys, k),
      scope: readIndex(keys, k + 4),
      mapId: readIndex(values, v),
      digest: half(4) + half(8),
    };
  },
};
