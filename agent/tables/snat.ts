import { layouts, type NatEntry } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { type Visit, walkConnections } from './connections.ts';

export type { NatEntry } from '../abi/generated.ts';

/** Visits the NAT table, forward and reverse entries. Throws E_NO_MAPS, E_LAYOUT. */
export function walkNat(bpffs: string, family: Family, visit: Visit<NatEntry>): Promise<void> {
  return walkConnections(bpffs, family, 'snat', layouts[family].nat_entry, visit);
}
