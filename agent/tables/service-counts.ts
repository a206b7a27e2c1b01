import { layouts, service_count } from '../abi/generated.ts';
import type { BpfMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { DROP_REASONS, type DropReason } from './names.ts';

/** What the datapath counted of services and backends, by id. */
export interface ServiceCounts {
  connections: Map<number, number>;
  backendConnections: Map<number, number>;
  drops: Map<number, Partial<Record<DropReason, number>>>;
}

export function noServiceCounts(): ServiceCounts {
  return { connections: new Map(), backendConnections: new Map(), drops: new Map() };
}

/** Adds what a family's `service_counts` holds, summed over the CPUs. */
export async function readServiceCounts(
  map: BpfMap,
  family: Family,
  counts: ServiceCounts,
): Promise<void> {
  for await (const { keys, values, count } of map.lookupBatch()) {
    const key = keyReader(keys, family);
    const view = new DataView(values.buffer, values.byteOffset);
    for (let i = 0; i < count; i++) {
      add(counts, key(i), sumAt(view, i * map.valueStride, map.valueStride));
    }
  }
}

/** Ids that have no owner any more. */
export interface GoneIds {
  services: Pick<ReadonlySet<number>, 'has'>;
  backends: Pick<ReadonlySet<number>, 'has'>;
}

/** Deletes what was counted under the ids. */
export async function forgetServiceCounts(
  map: BpfMap,
  family: Family,
  gone: GoneIds,
): Promise<void> {
  const { keySize } = map;
  for await (const { keys, count } of map.lookupBatch()) {
    const key = keyReader(keys, family);
    const matched = new Uint8Array(count * keySize);
    let found = 0;
    for (let i = 0; i < count; i++) {
      const { id, kind } = key(i);
      const ids = kind === service_count.BACKEND_CONNECTIONS ? gone.backends : gone.services;
      if (!ids.has(id)) continue;
      matched.set(keys.subarray(i * keySize, (i + 1) * keySize), found++ * keySize);
    }
    await map.deleteBatch(matched, found);
  }
}

function keyReader(keys: Uint8Array, family: Family) {
  const { size, fields } = layouts[family].service_count_key;
  const view = new DataView(keys.buffer, keys.byteOffset);
  return (index: number) => ({
    id: view.getUint32(index * size + fields.id.offset, true),
    kind: view.getUint16(index * size + fields.kind.offset, true),
    reason: view.getUint16(index * size + fields.reason.offset, true),
  });
}

function add(
  { connections, backendConnections, drops }: ServiceCounts,
  { id, kind, reason }: { id: number; kind: number; reason: number },
  count: number,
): void {
  if (kind === service_count.SERVICE_CONNECTIONS) connections.set(id, count);
  else if (kind === service_count.BACKEND_CONNECTIONS) backendConnections.set(id, count);
  else {
    const name = DROP_REASONS[reason];
    if (name) drops.set(id, { ...drops.get(id), [name]: count });
  }
}

function sumAt(view: DataView, from: number, length: number): number {
  let sum = 0n;
  for (let at = from; at < from + length; at += 8) sum += view.getBigUint64(at, true);
  return Number(sum);
}
