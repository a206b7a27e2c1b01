import { layouts, type NatEntry } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { type Connection, listConnections } from './connections.ts';

export type { NatEntry } from '../abi/generated.ts';

/** Streams the NAT table, forward and reverse entries. Throws E_NO_MAPS, E_LAYOUT. */
export function listNat(
  bpffs: string,
  family: Family,
): AsyncGenerator<Connection<NatEntry>, void, undefined> {
  return listConnections(bpffs, family, 'snat', layouts[family].nat_entry);
}
