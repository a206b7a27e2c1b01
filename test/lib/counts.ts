import { join } from 'node:path';
import {
  counter,
  drop_reason,
  hook,
  restored as restoredHalf,
  verdict,
} from '../../agent/abi/generated.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import type { Family, Node } from './topology.ts';

const HOOK_NUMBERS = {
  from_endpoint: hook.HOOK_FROM_ENDPOINT,
  to_endpoint: hook.HOOK_TO_ENDPOINT,
  from_netdev: hook.HOOK_FROM_NETDEV,
  to_netdev: hook.HOOK_TO_NETDEV,
};

export type Half = 'forward' | 'reverse' | 'adopted';
export type Restored = Record<Half, number>;

/** Records brought back since the node's counters were made. */
export function readRestored(node: Node, family: Family): Restored {
  const [forward = 0, reverse = 0, adopted = 0] = read(node, family, [
    counter.COUNTER_RESTORED + restoredHalf.RESTORED_FORWARD,
    counter.COUNTER_RESTORED + restoredHalf.RESTORED_REVERSE,
    counter.COUNTER_RESTORED + restoredHalf.RESTORED_ADOPTED,
  ]);
  return { forward, reverse, adopted };
}

/** Packets dropped for a reason, at all hooks; `reason` is the label, such as `half_lost`. */
export function readDrops(node: Node, family: Family, reason: string): number {
  const number = (drop_reason as Record<string, number>)[`DROP_${reason.toUpperCase()}`];
  if (number === undefined) throw new RangeError(`no drop reason is called ${reason}`);
  const slots = Array.from(
    { length: hook.HOOK_COUNT },
    (_, at) => counter.COUNTER_DROPS + at * drop_reason.DROP_REASON_COUNT + number,
  );
  return read(node, family, slots).reduce((sum, value) => sum + value, 0);
}

/** Packets that a hook's program has seen, whatever became of them. */
export function readPackets(
  node: Node,
  family: Family,
  name: 'from_endpoint' | 'to_endpoint' | 'from_netdev' | 'to_netdev',
): number {
  const base = counter.COUNTER_PACKETS + HOOK_NUMBERS[name] * verdict.VERDICT_COUNT;
  const slots = Array.from({ length: verdict.VERDICT_COUNT }, (_, at) => base + at);
  return read(node, family, slots).reduce((sum, value) => sum + value, 0);
}

function read(node: Node, family: Family, slots: readonly number[]): number[] {
  const path = join(node.bpffs, family, 'counters');
  using map = openPinnedMap(path);
  if (!map) throw new Error(`nothing is pinned at ${path}`);
  return slots.map((slot) => Number(map.sumU64(new Uint8Array(Uint32Array.of(slot).buffer))));
}
