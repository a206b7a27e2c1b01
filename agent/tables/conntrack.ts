import { type CtEntry, layouts } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { type Visit, walkConnections } from './connections.ts';

export type { CtEntry } from '../abi/generated.ts';

/** Visits the entries of a connection tracking table. Throws E_NO_MAPS, E_LAYOUT. */
export function walkConntrack(
  bpffs: string,
  family: Family,
  table: 'ct_tcp' | 'ct_any',
  visit: Visit<CtEntry>,
): Promise<void> {
  return walkConnections(bpffs, family, table, layouts[family].ct_entry, visit);
}
