import { resizeTable } from '../../agent/engine/resize.ts';
import type { Family } from '../../agent/lib/ip.ts';
import { watchEventLoop } from '../lib/event-loop.ts';
import { pinnedMaps } from '../lib/pinned-maps.ts';

export interface ResizeFigures {
  /** Entries that were copied. */
  copied: number;
  seconds: number;
  /** Longest time that the event loop beside it stood still. */
  longestGapMs: number;
}

/** Gives a family's pinned `ct_tcp` another size, with an event loop turning beside it. */
export async function measureResize(
  bpffs: string,
  family: Family,
  entries: number,
): Promise<ResizeFigures> {
  using maps = pinnedMaps(bpffs);
  const loop = watchEventLoop();
  const begun = performance.now();
  const { copied } = await resizeTable({ bpffs, maps }, family, 'ct_tcp', entries);
  const seconds = (performance.now() - begun) / 1000;
  return { copied, seconds, longestGapMs: loop.stop().longestGapMs };
}
