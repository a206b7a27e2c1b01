import { decode } from '../abi/codec.ts';
import { layouts, type ServiceCountKey, service_count } from '../abi/generated.ts';
import type { BpfMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { DROP_REASONS, type DropReason } from '../tables/names.ts';
import { openFamilyMap } from '../tables/open.ts';

const { SERVICE_CONNECTIONS, SERVICE_DROPS, BACKEND_CONNECTIONS } = service_count;
const COUNT = { size: 8, fields: {} };
const keyLayout = layouts.ipv4.service_count_key;

/** What the datapath counted for services, summed over CPUs. */
export interface ServiceCounts {
  /** New connections of a service, by its id. */
  connections(id: number): number;
  /** Its dropped packets; reasons that did not occur are left out. */
  drops(id: number): Partial<Record<DropReason, number>>;
  /** New connections of a backend, by its id. */
  backendConnections(id: number): number;
}

/** Reads the counts of a family. Throws E_NO_MAPS, E_LAYOUT. */
export async function readCounts(bpffs: string, family: Family): Promise<ServiceCounts> {
  using map = openFamilyMap(bpffs, family, 'service_counts', { key: keyLayout, value: COUNT });
  const counts = new Map<string, number>();
  for await (const { keys, values, count } of map.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      const key = decode(keyLayout, keys, i * map.keySize);
      counts.set(wordOf(key), sumAt(map, values, i));
    }
  }
  const of = (id: number, kind: number, reason = 0) =>
    counts.get(wordOf({ id, kind, reason })) ?? 0;
  return {
    connections: (id) => of(id, SERVICE_CONNECTIONS),
    backendConnections: (id) => of(id, BACKEND_CONNECTIONS),
    drops(id) {
      const counted = DROP_REASONS.map((name, reason) => [name, of(id, SERVICE_DROPS, reason)]);
      return Object.fromEntries(counted.filter(([, count]) => count !== 0));
    },
  };
}

function wordOf({ id, kind, reason }: ServiceCountKey): string {
  return `${kind} ${id} ${reason}`;
}

/** Of the n-th value of a batch: one counter for each CPU. */
function sumAt(map: BpfMap, values: Uint8Array, number: number): number {
  const view = new DataView(values.buffer, values.byteOffset + number * map.valueStride);
  let sum = 0n;
  for (let at = 0; at < map.valueStride; at += 8) sum += view.getBigUint64(at, true);
  return Number(sum);
}
