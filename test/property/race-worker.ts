/** Opens flows as fast as it can: one of several that run at the same time. */
import { parentPort, workerData } from 'node:worker_threads';
import { buildPacket } from '../lib/packet.ts';
import { loadedProgram, SKB, skbContext } from './program-runs.ts';

export interface RaceOrder {
  family: 'ipv4' | 'ipv6';
  src: string;
  dst: string;
  /** Source ports from here on. */
  first: number;
  count: number;
  programs: { from_endpoint: number; to_netdev: number };
  ifindex: number;
  eth0: number;
  /** Shared by two workers that are to send each packet at the same moment. */
  gate?: Int32Array;
}

const DROP = 2;

const order: RaceOrder = workerData;
const fromEndpoint = loadedProgram(order.programs.from_endpoint);
const toNetdev = loadedProgram(order.programs.to_netdev);
const pod = skbContext(order.ifindex, order.ifindex);
const egress = skbContext(order.eth0, order.ifindex);
let opened = 0;
for (let i = 0; i < order.count; i++) {
  const tcp = { sport: order.first + i, dport: 443, flags: 'S' };
  const data = buildPacket({ ip: { src: order.src, dst: order.dst }, tcp });
  const first = fromEndpoint.testRun({ data, ctx: pod });
  egress.set(first.ctx.subarray(SKB.cb, SKB.cb + 20), SKB.cb);
  if (order.gate) {
    Atomics.add(order.gate, 0, 1);
    while (Atomics.load(order.gate, 0) < 2 * (i + 1)) {}
  }
  const second = toNetdev.testRun({ data: first.data, ctx: egress });
  if (second.retval !== DROP) opened += 1;
}
parentPort?.postMessage(opened);
