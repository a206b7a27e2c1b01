import { type CtEntry, layouts } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { type Connection, listConnections } from './connections.ts';

export type { CtEntry } from '../abi/generated.ts';

/** Streams a connection tracking table. Throws E_NO_MAPS, E_LAYOUT. */
export function listConntrack(
  bpffs: string,
  family: Family,
  table: 'ct_tcp' | 'ct_any',
): AsyncGenerator<Connection<CtEntry>, void, undefined> {
  return listConnections(bpffs, family, table, layouts[family].ct_entry);
}
