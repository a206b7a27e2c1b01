import { randomBytes } from 'node:crypto';
import { decode, encode } from '../abi/codec.ts';
import { layouts } from '../abi/generated.ts';
import { createMap, openPinnedMap } from '../kernel/map.ts';
import { openObject } from '../kernel/object.ts';
import { jiffiesPerSecond } from '../kernel/system.ts';
import { findNodeState, type NodeState } from '../tables/clock.ts';
import { objectPath } from './objects.ts';
import { nodePin } from './pins.ts';

const NS_PER_SECOND = 1_000_000_000n;
const FIRST = new Uint8Array(4);
const layout = layouts.ipv4.node_state;

/** Both clocks at one instant. */
export interface ClockSample {
  jiffies: bigint;
  monotonicNs: bigint;
}

/**
 * The pinned node state with a fresh calibration, or a new one; changes nothing.
 * Throws E_LAYOUT when what is pinned is something else.
 */
export function calibrateNode(bpffs: string): NodeState {
  const known = findNodeState(bpffs);
  using clock = loadClock();
  const hz = jiffiesPerSecond();
  const secret = known?.hz ? known.secret : drawSecret();
  return { secret, hz, clock_delta_ns: clockDelta(clock.read(), hz) };
}

/** Pins the state, or writes it to the pin. A pin only ever holds a complete state. */
export function writeNodeState(bpffs: string, state: NodeState): void {
  const path = nodePin(bpffs);
  const { size: valueSize } = layout;
  using pinned = openPinnedMap(path);
  using map =
    pinned ?? createMap({ type: 'array', name: 'node', keySize: 4, valueSize, maxEntries: 1 });
  map.update(FIRST, encode(layout, state));
  if (!pinned) map.pin(path);
}

/** Datapath clock minus CLOCK_MONOTONIC, in nanoseconds, as one sample tells it. */
function clockDelta({ jiffies, monotonicNs }: ClockSample, hz: number): bigint {
  return (jiffies * NS_PER_SECOND) / BigInt(hz) - monotonicNs;
}

function loadClock(): Disposable & { read: () => ClockSample } {
  using object = openObject(objectPath('ipv4-reap.bpf.o'));
  object.setAutoload('reap', false);
  for (const table of ['ct_tcp', 'ct_any', 'snat']) {
    if (object.maps().includes(table)) object.setMaxEntries(table, 1);
  }
  object.load();
  const program = object.program('read_clock');
  const sample = layouts.ipv4.clock_sample;
  return {
    read() {
      const ctx = new Uint8Array(sample.size);
      program.run(ctx);
      const { jiffies, monotonic_ns } = decode(sample, ctx);
      return { jiffies, monotonicNs: monotonic_ns };
    },
    [Symbol.dispose]: () => program[Symbol.dispose](),
  };
}

function drawSecret(): bigint[] {
  const bytes = randomBytes(16);
  return [bytes.readBigUInt64LE(0), bytes.readBigUInt64LE(8)];
}
