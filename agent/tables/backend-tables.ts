import { setImmediate as nextTurn } from 'node:timers/promises';
import { backend_table_size, layouts } from '../abi/generated.ts';
import { type BpfMap, createMap, mapById } from '../kernel/map.ts';
import { KernelError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import { indexKey } from './index-key.ts';

const FIRST = indexKey(0);
const VALUE_SIZE = backend_table_size.BACKEND_TABLE_SIZE * 4;
/** Tables made before others have a turn: a few milliseconds. */
const AT_A_TIME = 32;
/** Tables of one update: each is a descriptor, and the update waits for all programs once. */
export const TABLE_BATCH = 256;

/** Whose table it is: `backend_tables`. */
export interface BackendTableKey {
  serviceId: number;
  /** enum service_scope */
  scope: number;
}

/** A table that is to be put in place; `name` tells what is in it (15 characters at most). */
export interface NewBackendTable extends BackendTableKey {
  name: string;
  /** BACKEND_TABLE_SIZE backend ids. */
  ids: Uint32Array;
}

/** A table that is there; the name is undefined where it may not be asked for. */
export interface FoundBackendTable extends BackendTableKey {
  name: string | undefined;
}

/**
 * Puts tables in place of those that are there, each in one step: TABLE_BATCH of them at most.
 * Ends after every program has seen them.
 */
export async function putBackendTables(
  map: BpfMap,
  family: Family,
  tables: readonly NewBackendTable[],
): Promise<void> {
  using stack = new DisposableStack();
  const inner: BpfMap[] = [];
  for (const { name, ids } of tables) {
    const shape = { type: 'array', keySize: 4, valueSize: VALUE_SIZE, maxEntries: 1 } as const;
    const created = stack.use(createMap({ ...shape, name }));
    created.update(FIRST, new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
    if (inner.push(created) % AT_A_TIME === 0) await nextTurn();
  }
  await map.updateFds(packKeys(family, tables), inner);
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

/** Every table, by its name: reading that takes CAP_SYS_ADMIN, and without it tables are made again. */
export async function readBackendTables(map: BpfMap, family: Family): Promise<FoundBackendTable[]> {
  const { size, fields } = layouts[family].backend_table_key;
  const found: FoundBackendTable[] = [];
  for await (const { keys, values, count } of map.lookupBatch(TABLE_BATCH)) {
    const [key, value] = [keys, values].map(({ buffer, byteOffset }) => {
      return new DataView(buffer, byteOffset);
    }) as [DataView, DataView];
    for (let i = 0; i < count; i++) {
      found.push({
        serviceId: key.getUint32(i * size + fields.service_id.offset, true),
        scope: key.getUint32(i * size + fields.scope.offset, true),
        name: nameOf(value.getUint32(i * 4, true)),
      });
    }
  }
  return found;
}

/** The ids in a table; undefined where there is none. */
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

function nameOf(id: number): string | undefined {
  try {
    using map = mapById(id);
    return map?.name;
  } catch (error) {
    if (error instanceof KernelError && error.code === 'E_PRIVILEGE') return undefined;
    throw error;
  }
}
