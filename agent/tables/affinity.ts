import { decode } from '../abi/codec.ts';
import { type Affinity, type AffinityKey, layouts } from '../abi/generated.ts';
import type { BpfMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';

/** A client and the backend that it stays with: `affinity`. */
export interface AffinityRow extends AffinityKey, Affinity {}

/** Every row, a batch at a time. */
export async function readAffinity(map: BpfMap, family: Family): Promise<AffinityRow[]> {
  const { affinity_key, affinity } = layouts[family];
  const rows: AffinityRow[] = [];
  for await (const { keys, values, count } of map.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      const key = decode(affinity_key, keys, i * affinity_key.size);
      rows.push({ ...key, ...decode(affinity, values, i * affinity.size) });
    }
  }
  return rows;
}
