/**
 * Nanoseconds per packet of each hook, by BPF_PROG_TEST_RUN on the real programs and maps: one hot
 * flow, 100,000 established flows, and new flows. Runs in a network namespace of its own.
 */
import { join } from 'node:path';
import { openObject } from '../../agent/kernel/object.ts';
import { programById } from '../../agent/kernel/program.ts';
import { openRig, PEOPLE, type Rig } from '../datapath/rig.ts';
import { buildPacket, type Packet } from '../lib/packet.ts';

type Family = 'ipv4' | 'ipv6';
type Hook = 'from_endpoint' | 'to_netdev' | 'from_netdev';

const FRAME_MAX = 96;
const ORDER = { length: 96, flows: 100, port: 104, peer: 108, cb: 112, next: 132, size: 136 };
const SKB = { size: 192, ingressIfindex: 36, ifindex: 40 };
const PAYLOAD = 64;
const ROUNDS = 7;
const REPEAT = 100_000;
const REDIRECT = 7;

export interface Cost {
  name: string;
  family: Family;
  /** ns per packet over the rounds, net of the wrapper. */
  median: number;
  best: number;
  worst: number;
}

interface Bench {
  /** Runs a hook `repeat` times over `flows` flows, from flow `from` on. */
  run(hook: Hook | 'nothing', packet: Packet, flows: number, repeat: number, from?: number): number;
  handoff: number[];
}

function openBench(rig: Rig, stack: DisposableStack): Bench {
  const path = join(import.meta.dirname, '..', '..', 'build', 'bpf', 'bench-wrapper.bpf.o');
  const object = stack.use(openObject(path));
  object.load();
  const [wrapper, nothing] = [object.program('wrapper'), object.program('nothing')];
  const [orders, target] = [object.map('orders'), object.map('target')];
  for (const owned of [wrapper, nothing, orders, target]) stack.use(owned);
  const programs = new Map(
    (['from_endpoint', 'to_netdev', 'from_netdev'] as const).map((hook) => {
      const program = programById(rig.programIds[hook]);
      if (!program) throw new Error(`no program ${hook}`);
      return [hook, stack.use(program)];
    }),
  );
  const zero = new Uint8Array(4);
  const bench: Bench = {
    handoff: [],
    run(hook, packet, flows, repeat, from = 0) {
      const frame = buildPacket({ ...packet, payload: new Uint8Array(PAYLOAD) });
      const order = new Uint8Array(ORDER.size);
      const view = new DataView(order.buffer);
      const v6 = frame[12] === 0x86;
      const outgoing = hook !== 'from_netdev';
      const header = v6 ? 40 : 20;
      const length = Math.min(frame.length, 14 + header + 20, FRAME_MAX);
      order.set(frame.subarray(0, length));
      view.setUint32(ORDER.length, length, true);
      view.setUint32(ORDER.flows, flows, true);
      view.setUint32(ORDER.port, 14 + header + (outgoing ? 0 : 2), true);
      const address = outgoing ? (v6 ? 38 : 30) + (v6 ? 14 : 2) : (v6 ? 22 : 26) + (v6 ? 14 : 2);
      view.setUint32(ORDER.peer, address, true);
      for (const [i, word] of bench.handoff.entries()) view.setUint32(ORDER.cb + 4 * i, word, true);
      view.setUint32(ORDER.next, from, true);
      orders.update(zero, order);
      const ctx = new Uint8Array(SKB.size);
      const skb = new DataView(ctx.buffer);
      const ifindex = hook === 'from_endpoint' ? rig.ifindex.a : rig.ifindex.eth0;
      skb.setUint32(SKB.ifindex, ifindex, true);
      skb.setUint32(SKB.ingressIfindex, hook === 'from_netdev' ? ifindex : rig.ifindex.a, true);
      target.delete(zero);
      target.updateFd(zero, hook === 'nothing' ? nothing : (programs.get(hook) ?? nothing));
      const { retval, data, durationNs } = wrapper.testRun({ data: frame, ctx, repeat });
      assertPath(hook, retval, frame, data);
      return durationNs;
    },
  };
  return bench;
}

/** Fails unless the last packet was forwarded, translated or delivered: else it is not the path. */
function assertPath(hook: Hook | 'nothing', retval: number, before: Uint8Array, after: Uint8Array) {
  const source = before[12] === 0x86 ? [22, 38] : [26, 30];
  const translated = Buffer.compare(before.subarray(...source), after.subarray(...source)) !== 0;
  if (hook === 'nothing' || (hook === 'to_netdev' ? translated : retval === REDIRECT)) return;
  throw new Error(`${hook} returned ${retval}, and did not do what is to be measured`);
}

/** The harness alone, on the same packet. */
function floor(bench: Bench, packet: Packet, flows: number): number {
  return bench.run('nothing', packet, flows, REPEAT);
}

function summarise(name: string, family: Family, rounds: number[]): Cost {
  const sorted = rounds.toSorted((a, b) => a - b);
  const at = (i: number) => Math.round(sorted[i] ?? 0);
  return {
    name,
    family,
    best: at(0),
    median: at(sorted.length >> 1),
    worst: at(sorted.length - 1),
  };
}

/** Fills the tables with established flows, by their own packets. */
function establish(bench: Bench, rig: Rig, flows: number, family: Family, proto: 'tcp' | 'udp') {
  const { A, W, N } = PEOPLE[family];
  const l4 = (flags: string) =>
    proto === 'tcp' ? { tcp: { sport: 1, dport: 443, flags } } : { udp: { sport: 1, dport: 443 } };
  const back = (flags: string) =>
    proto === 'tcp' ? { tcp: { sport: 443, dport: 1, flags } } : { udp: { sport: 443, dport: 1 } };
  const out = (flags: string): Packet => ({ ip: { src: A, dst: W }, ...l4(flags) });
  const ins = (flags: string): Packet => ({ ip: { src: W, dst: N }, ...back(flags) });
  const step = (hook: Hook, packet: Packet) => bench.run(hook, packet, flows, flows);
  const capture = (flags: string) => {
    const ip = { src: A, dst: firstPeer(W) };
    bench.handoff = rig.run('from_endpoint', buildPacket({ ip, ...probe(proto, flags) })).cb;
  };
  capture('S');
  const [fresh, newFlow, firstReply] = [
    step('from_endpoint', out('S')),
    step('to_netdev', out('S')),
    step('from_netdev', ins('SA')),
  ];
  step('from_endpoint', out('A'));
  capture('A');
  step('to_netdev', out('A'));
  return { out: out('A'), ins: ins('A'), created: [fresh, newFlow, firstReply] as const };
}

/** The peer of the wrapper's first flow: its last two bytes are 0. */
function firstPeer(address: string): string {
  return address.includes(':')
    ? address.replace(/[^:]+$/, '0')
    : address.replace(/\d+\.\d+$/, '0.0');
}

/** The first flow of the wrapper, for which the handoff is captured. */
function probe(proto: 'tcp' | 'udp', flags: string): Pick<Packet, 'tcp' | 'udp'> {
  const ports = { sport: 32768, dport: 443 };
  return proto === 'tcp' ? { tcp: { ...ports, flags } } : { udp: ports };
}

async function measure(family: Family, proto: 'tcp' | 'udp'): Promise<Cost[]> {
  const costs: Cost[] = [];
  for (const [label, flows] of [
    ['one flow', 1],
    ['100k flows', 100_000],
  ] as const) {
    using stack = new DisposableStack();
    await using rig = await openRig(family, { tableSize: 524_288 });
    const bench = openBench(rig, stack);
    const { out, ins, created } = establish(bench, rig, flows, family, proto);
    const base = floor(bench, out, flows);
    if (flows > 1) {
      for (const [i, name] of ['from_endpoint', 'to_netdev', 'from_netdev'].entries()) {
        costs.push(summarise(`${name} ${proto} new flow`, family, [(created[i] ?? 0) - base]));
      }
    }
    const rounds: Record<Hook, number[]> = { from_endpoint: [], to_netdev: [], from_netdev: [] };
    for (let round = 0; round < ROUNDS; round++) {
      for (const hook of ['from_endpoint', 'to_netdev', 'from_netdev'] as const) {
        const packet = hook === 'from_netdev' ? ins : out;
        const under = floor(bench, packet, flows);
        rounds[hook].push(bench.run(hook, packet, flows, REPEAT) - under);
      }
    }
    for (const [hook, values] of Object.entries(rounds)) {
      costs.push(summarise(`${hook} ${proto} ${label}`, family, values));
    }
  }
  return costs;
}

const all: Cost[] = [];
for (const family of ['ipv4', 'ipv6'] as const) {
  for (const proto of ['tcp', 'udp'] as const) all.push(...(await measure(family, proto)));
}
for (const { family, name, median, best, worst } of all) {
  console.log(`${family} ${name.padEnd(34)} ${median} ns (${best}–${worst})`);
}
