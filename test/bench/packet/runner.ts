import { join } from 'node:path';
import { openObject } from '../../../agent/kernel/object.ts';
import type { BpfProgram } from '../../../agent/kernel/program.ts';
import type { Rig } from '../../datapath/rig.ts';
import { buildPacket, type Packet } from '../../lib/packet.ts';
import { summarise } from '../statistics.ts';
import { SERVED, type Served } from './served.ts';

export type Hook = 'from_endpoint' | 'to_netdev' | 'from_netdev';
export const HOOKS: readonly Hook[] = ['from_endpoint', 'to_netdev', 'from_netdev'];

const WRAPPER = join(
  ...[import.meta.dirname, '..', '..', '..'],
  ...['build', 'bpf', 'bench-wrapper.bpf.o'],
);
/** `struct order` of wrapper.bpf.c. */
const FRAME_MAX = 128;
const ORDER = { length: 128, flows: 132, port: 136, peer: 140, cb: 144, next: 164, size: 168 };
/** `struct __sk_buff`. */
const SKB = { size: 192, ingressIfindex: 36, ifindex: 40 };
/** Of a datagram: 104 bytes of IP with TCP. */
const PAYLOAD = 64;
/** Test runs that tell the wrapper's part of packets apart. */
const APART_FLOOR = 5000;
const [TC_ACT_SHOT, TC_ACT_REDIRECT, NEXT] = [2, 7, 0xffff_ffff];
/** What cb[1] of a handoff says of a packet that from_endpoint has translated. */
export const HANDOFF = { translated: 0xffff_ffff };

export interface Run {
  /** A whole frame is taken as it is. */
  packet: Packet | Uint8Array;
  /** Flows that take turns. */
  flows: number;
  repeat: number;
  /** The flow to begin with; 0 when left out. */
  from?: number;
  /** What from_endpoint left in skb->cb. */
  handoff?: readonly number[];
  /** Comes first, in the same second: to_netdev looks at the flows' halves. */
  settle?: Run;
  /** Begins when a second does. */
  fresh?: boolean;
  /** The packet is to be refused, not forwarded. */
  refused?: boolean;
  /** The peer sends it: flows differ by its destination port and its source. */
  answers?: boolean;
  /** Sent by the other pod, b. */
  byOther?: boolean;
  /** What services are to make of it. */
  served?: Served;
  /** Bytes of headers before the Ethernet header of what is in a tunnel. */
  tunnel?: number;
  /** The hook changes the length: each packet is a test run of its own. */
  apart?: boolean;
}

/** Repeats a hook on packets that are new each time. */
export interface Runner {
  /** Mean ns of one run, the wrapper's part included. Fails when the last packet was not handled. */
  run(hook: Hook, run: Run): number;
  /** The wrapper's part alone. */
  floor(run: Run): number;
  /** What `measure` answers while the run's flows are as it wants them. */
  within<T>(run: Run, measure: () => T): T;
}

/** `programs` are the hooks' own, or others built from them. */
export function openRunner(
  rig: Rig,
  programs: Record<Hook, BpfProgram>,
  stack: DisposableStack,
): Runner {
  const object = stack.use(openObject(WRAPPER));
  object.load();
  const [wrapper, nothing] = [object.program('wrapper'), object.program('nothing')];
  const [orders, target] = [object.map('orders'), object.map('target')];
  for (const owned of [wrapper, nothing, orders, target]) stack.use(owned);
  const zero = new Uint8Array(4);

  function repeat(program: BpfProgram, hook: Hook, run: Run) {
    const frame = frameOf(run);
    orders.update(zero, encodeOrder(frame, hook, run));
    target.delete(zero);
    target.updateFd(zero, program);
    const input = { data: frame, ctx: contextOf(hook, run) };
    if (!run.apart) return { frame, ...wrapper.testRun({ ...input, repeat: run.repeat }) };
    let last = wrapper.testRun(input);
    const times = [last.durationNs];
    while (times.length < run.repeat) {
      last = wrapper.testRun(input);
      times.push(last.durationNs);
    }
    return { frame, ...last, durationNs: summarise(times).median };
  }

  function contextOf(hook: Hook, { byOther }: Run): Uint8Array {
    const { a, b, eth0 } = rig.ifindex;
    const pod = byOther ? b : a;
    const ctx = new Uint8Array(SKB.size);
    const view = new DataView(ctx.buffer);
    view.setUint32(SKB.ifindex, hook === 'from_endpoint' ? pod : eth0, true);
    view.setUint32(SKB.ingressIfindex, hook === 'from_netdev' ? eth0 : pod, true);
    return ctx;
  }

  const runner: Runner = {
    run(hook, run) {
      const { retval, frame, data, durationNs } = repeat(programs[hook], hook, run);
      assertHandled(hook, run, retval, frame, data);
      return durationNs;
    },
    floor(run) {
      const enough = run.apart ? { ...run, repeat: APART_FLOOR } : run;
      return repeat(nothing, 'from_endpoint', enough).durationNs;
    },
    within(run, measure) {
      for (;;) {
        const before = rig.now();
        while (run.fresh && rig.now() === before);
        const second = rig.now();
        const isOver = () => (run.fresh || run.settle) && rig.now() !== second;
        try {
          if (run.settle) runner.run('to_netdev', run.settle);
          const answer = measure();
          if (!isOver()) return answer;
        } catch (error) {
          if (!isOver()) throw error;
        }
      }
    },
  };
  return runner;
}

function frameOf({ packet }: Run): Uint8Array {
  if (packet instanceof Uint8Array) return packet;
  return buildPacket({ ...packet, payload: new Uint8Array(PAYLOAD) });
}

/** Flows differ by the opener's port and by the last bytes of the peer's address. */
function encodeOrder(frame: Uint8Array, hook: Hook, run: Run): Uint8Array {
  const order = new Uint8Array(ORDER.size);
  const view = new DataView(order.buffer);
  const v6 = isIpv6(frame);
  const { answers = false, tunnel = 0 } = run;
  const header = v6 ? 40 : 20;
  const peer = answers ? (v6 ? 36 : 28) : v6 ? 52 : 32;
  const length = Math.min(frame.length, tunnel + 14 + header + 20, FRAME_MAX);
  order.set(frame.subarray(0, length));
  view.setUint32(ORDER.length, length, true);
  view.setUint32(ORDER.flows, run.flows, true);
  view.setUint32(ORDER.port, tunnel + 14 + header + (answers ? 2 : 0), true);
  view.setUint32(ORDER.peer, tunnel + peer, true);
  view.setUint32(ORDER.next, run.from ?? 0, true);
  const handoff = hook === 'to_netdev' ? (run.handoff ?? []) : [];
  for (const [i, word] of handoff.entries()) view.setUint32(ORDER.cb + 4 * i, word, true);
  return order;
}

/** Forwarded, translated, delivered or refused, as it should be: else it is not the path. */
function assertHandled(
  hook: Hook,
  run: Run,
  retval: number,
  before: Uint8Array,
  after: Uint8Array,
): void {
  if (run.served) {
    if (retval === TC_ACT_REDIRECT && SERVED[run.served](before, after)) return;
    throw new Error(`${hook} returned ${retval}, and the packet was not ${run.served}`);
  }
  const source = isIpv6(before) ? [22, 38] : [26, 30];
  const translated = Buffer.compare(before.subarray(...source), after.subarray(...source)) !== 0;
  const [result, translates] = expected(hook, run);
  if (retval === result && (translates === undefined || translated === translates)) return;
  throw new Error(`${hook} returned ${retval}, and did not do what is to be measured`);
}

/** The hook's verdict, and whether the source is another afterwards. */
function expected(hook: Hook, run: Run): [verdict: number, translates?: boolean] {
  if (hook === 'from_netdev') return [TC_ACT_REDIRECT];
  if (hook === 'from_endpoint') return [TC_ACT_REDIRECT, run.settle !== undefined];
  return run.refused ? [TC_ACT_SHOT] : [NEXT, run.settle === undefined];
}

const isIpv6 = (frame: Uint8Array) => frame[12] === 0x86;
