import type { NatEntry, Tuple } from '../abi/generated.ts';
import { formatAddress, formatEndpoint } from '../lib/ip.ts';
import { NAT_CLASSES } from '../tables/names.ts';
import { formatTuple, tupleJson } from './ct-format.ts';

const IN = 1;
const NEEDS_CT = 0x01;

/**
 * The line of a NAT entry. Without `now` (seconds of the datapath's clock) its age cannot be
 * told and the raw time is printed.
 */
export function formatNat(tuple: Tuple, entry: NatEntry, now?: number): string {
  const verb = tuple.kind === IN ? 'XLATE_DST' : 'XLATE_SRC';
  const created = now === undefined ? `? (raw ${entry.created})` : `${age(entry, now)}sec ago`;
  const needsCt = entry.flags & NEEDS_CT ? 1 : 0;
  return (
    `${formatTuple(tuple)} ${verb} ${formatEndpoint(entry.addr, entry.port)}` +
    ` Created=${created} NeedsCT=${needsCt}`
  );
}

/** The published JSON form of a NAT entry (docs/json.md). */
export function natJson(tuple: Tuple, entry: NatEntry, now?: number) {
  return {
    ...tupleJson(tuple),
    translation: tuple.kind === IN ? 'destination' : 'source',
    to: { address: formatAddress(entry.addr), port: entry.port },
    created: entry.created,
    age: now === undefined ? null : age(entry, now),
    expires: entry.expires,
    remaining: now === undefined ? null : entry.expires - now,
    class: NAT_CLASSES[entry.class] ?? String(entry.class),
    needsCt: (entry.flags & NEEDS_CT) !== 0,
    revNat: entry.rev_nat_index,
  };
}

function age({ created }: NatEntry, now: number): number {
  return Math.max(0, now - created);
}
