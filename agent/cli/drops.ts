import { join } from 'node:path';
import { openPinnedMap } from '../kernel/map.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { readCounters } from '../tables/counters.ts';
import { DROP_REASONS, type DropReason, HOOKS, type Hook } from '../tables/names.ts';

/** Packets that one hook dropped for one reason since the maps were made. */
export interface Drops {
  family: Family;
  hook: Hook;
  reason: DropReason;
  packets: number;
}

/** Reasons that occurred, most packets first. */
export function readDrops(bpffs: string): Drops[] {
  return FAMILIES.flatMap((family) => dropsOf(bpffs, family)).sort((a, b) => b.packets - a.packets);
}

function dropsOf(bpffs: string, family: Family): Drops[] {
  using map = openPinnedMap(join(bpffs, family, 'counters'));
  if (!map) return [];
  const { drops } = readCounters(map);
  const all = HOOKS.flatMap((hook) =>
    DROP_REASONS.map((reason) => ({ family, hook, reason, packets: drops[hook][reason] })),
  );
  return all.filter(({ packets }) => packets > 0);
}
