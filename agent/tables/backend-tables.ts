import { setImmediate as nextTurn } from 'node:timers/promises';
import { backend_table_size, layouts } from '../abi/generated.ts';
import { type BpfMap, createMap, mapById } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { indexKey, readIndex } from './index-key.ts';

const FIRST = indexKey(0);
const VALUE_SIZE = backend_table_size.BACKEND_TABLE_SIZE * 4;
const SHAPE = { type: 'array', keySize: 4, valueSize: VALUE_SIZE, maxEntries: 1 } as const;
/** Tables made before others have a turn: a few milliseconds. */
const AT_A_TIME = 32;
/** Tables of one update: each is a descriptor, and an update waits for all programs. */
export const TABLE_BATCH = 256;
/**
 * Updates at once. Before Linux 6.8 one waits for each of its tables, a hundredth of a second or
 * so; these wait together. The pool's other threads (`bin/sekisho`) stay free.
 */
const LANES = 24;

/** Whose table it is: `backend_tables`. */
export interface BackendTableKey {
  serviceId: number;
  /** enum service_scope */
  scope: number;
}

/** A table that is to be put in place. */
export interface NewBackendTable extends BackendTableKey {
  /** BACKEND_TABLE_SIZE backend ids. */
  ids: Uint32Array;
}

/** A table that is in place, and the map that holds it. */
export interface PlacedTable extends BackendTableKey {
  mapId: number;
}

/**
 * Puts tables in place of those that are there, each in one step: TABLE_BATCH of them at most.
 * Resolves with their maps, after every program has seen them.
 */
export async function putBackendTables(
  map: BpfMap,
  family: Family,
  tables: readonly NewBackendTable[],
): Promise<PlacedTable[]> {
  using stack = new DisposableStack();
  const inner: BpfMap[] = [];
  for (const { ids } of tables) {
    const created = stack.use(createMap({ ...SHAPE, name: 'backend_table' }));
    created.update(FIRST, new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
    if (inner.push(created) % AT_A_TIME === 0) await nextTurn();
  }
  const size = Math.ceil(tables.length / LANES);
  const lanes = Array.from({ length: LANES }, (_, lane) => {
    const part = [lane * size, (lane + 1) * size] as const;
    return map.updateFds(packKeys(family, tables.slice(...part)), inner.slice(...part));
  });
  // none of them may still be at it when the descriptors are closed
  const outcomes = await Promise.allSettled(lanes);
  const failed = outcomes.find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
  return tables.map(({ serviceId, scope }, i) => ({ serviceId, scope, mapId: inner[i]?.id ?? 0 }));
}

/** Empties the places of tables. */
export async function deleteBackendTables(
  map: BpfMap,
  family: Family,
  tables: readonly BackendTableKey[],
): Promise<void> {
  for (let from = 0; from < tables.length; from += TABLE_BATCH) {
    const part = tables.slice(from, from + TABLE_BATCH);
    await map.deleteBatch(packKeys(family, part), part.length);
  }
}

/** Every table that is in place. */
export async function readBackendTables(map: BpfMap, family: Family): Promise<PlacedTable[]> {
  const { size, fields } = layouts[family].backend_table_key;
  const found: PlacedTable[] = [];
  for await (const { keys, values, count } of map.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      found.push({
        serviceId: readIndex(keys, i * size + fields.service_id.offset),
        scope: readIndex(keys, i * size + fields.scope.offset),
        mapId: readIndex(values, i * 4),
      });
    }
  }
  return found;
}

/** The ids in a table; undefined where there is none. Takes CAP_SYS_ADMIN. */
export function readBackendTable(
  map: BpfMap,
  family: Family,
  key: BackendTableKey,
): Uint32Array | undefined {
  const id = map.lookupId(packKeys(family, [key]));
  using table = id === undefined ? undefined : mapById(id);
  const bytes = table?.lookup(FIRST);
  return bytes && new Uint32Array(bytes.buffer);
}

function packKeys(family: Family, keys: readonly BackendTableKey[]): Uint8Array {
  const { size, fields } = layouts[family].backend_table_key;
  const view = new DataView(new ArrayBuffer(keys.length * size));
  for (const [i, { serviceId, scope }] of keys.entries()) {
    view.setUint32(i * size + fields.service_id.offset, serviceId, true);
    view.setUint32(i * size + fields.scope.offset, scope, true);
  }
  return new Uint8Array(view.buffer);
}
