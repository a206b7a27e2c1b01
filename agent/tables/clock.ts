import { join } from 'node:path';
import { decode } from '../abi/codec.ts';
import { layouts, type NodeState } from '../abi/generated.ts';
import { monotonicNs } from '../kernel/fs.ts';
import { SekishoError } from '../lib/errors.ts';
import { openWithLayout } from './open.ts';

export type { NodeState } from '../abi/generated.ts';

/** What all programs of the node share. Throws E_NO_MAPS, E_LAYOUT. */
export function readNodeState(bpffs: string): NodeState {
  const value = layouts.ipv4.node_state;
  using map = openWithLayout(join(bpffs, 'node'), { key: 4, value });
  return decode(value, map.lookup(new Uint8Array(4)) ?? new Uint8Array(value.size));
}

/** Like `readNodeState`; undefined where nothing is pinned. */
export function findNodeState(bpffs: string): NodeState | undefined {
  try {
    return readNodeState(bpffs);
  } catch (error) {
    if (error instanceof SekishoError && error.code === 'E_NO_MAPS') return undefined;
    throw error;
  }
}

/** Seconds of the clock that entries expire by. */
export function datapathNow({ clock_delta_ns }: Pick<NodeState, 'clock_delta_ns'>): number {
  return Number((monotonicNs() + clock_delta_ns) / 1_000_000_000n);
}
