/**
 * Lets flows expire and revives them, or refreshes them at the last moment, as fast as it can, while
 * somebody collects. Says of how many visits a flow was not as the visit before had left it.
 */
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { decode } from '../../agent/abi/codec.ts';
import { type CtEntry, layouts, type NatEntry } from '../../agent/abi/generated.ts';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { buildPacket } from '../lib/packet.ts';
import { encodeKey, type FlowKey, KIND } from '../lib/tables.ts';
import { loadedProgram, SKB, skbContext } from './program-runs.ts';

export interface ReviveOrder {
  family: 'ipv4' | 'ipv6';
  bpffs: string;
  src: string;
  dst: string;
  node: string;
  flows: number;
  programs: { from_endpoint: number; to_netdev: number };
  ifindex: number;
  eth0: number;
  /** Each flow sends once, and its port is noted here. */
  left?: Uint16Array;
  /** Not 0: enough. */
  stop: Int32Array;
}

export interface Revived {
  /** Packets that brought an expired flow back. */
  visits: number;
  /** Times that an entry of a live flow was gone, by which, or that it had another port. */
  lost: { conntrack: number; forward: number; reverse: number; port: number };
}

/** Outside the NAT range: each has a port that only its records and the search know. */
const FIRST = 1000;
/** Flows between the one that is revived and the one that is looked at. */
const DISTANCE = 3;

const order: ReviveOrder = workerData;
const PORTS_AT = 14 + (order.family === 'ipv4' ? 20 : 40);
const { family, src, dst } = order;
const shape = layouts[family];
const tables = { conntrack: open('ct_tcp'), nat: open('snat') };
const fromEndpoint = loadedProgram(order.programs.from_endpoint);
const toNetdev = loadedProgram(order.programs.to_netdev);
const pod = skbContext(order.ifindex, order.ifindex);
const egress = skbContext(order.eth0, order.ifindex);
/** Ports that the flows left with when they last came back. */
const ports = new Map<number, number>();
const result: Revived = { visits: 0, lost: { conntrack: 0, forward: 0, reverse: 0, port: 0 } };

if (order.left) openAll(order.left);
else reviveAll();
parentPort?.postMessage(result);

function openAll(left: Uint16Array): void {
  for (let i = 0; i < order.flows && Atomics.load(order.stop, 0) === 0; i++) {
    left[i] = send(i);
    result.visits++;
  }
}

function reviveAll(): void {
  for (let i = 0; Atomics.load(order.stop, 0) === 0; i++) visit(i);
}

function visit(i: number): void {
  const current = i % order.flows;
  ports.set(current, send(current));
  result.visits++;
  const before = i - DISTANCE;
  if (before < 0) return;
  look(before % order.flows);
  expire(before % order.flows);
}

function flow(i: number): FlowKey {
  return { src, dst, sport: FIRST + i, dport: 443, protocol: 6, kind: KIND.OUT };
}

/** A SYN: what has expired comes back as a new connection in its old entries. The port it left with. */
function send(i: number): number {
  const tcp = { sport: FIRST + i, dport: 443, flags: 'S' };
  const data = buildPacket({ ip: { src, dst }, tcp });
  const first = fromEndpoint.testRun({ data, ctx: pod });
  egress.set(first.ctx.subarray(SKB.cb, SKB.cb + 20), SKB.cb);
  const { data: sent } = toNetdev.testRun({ data: first.data, ctx: egress });
  return new DataView(sent.buffer, sent.byteOffset).getUint16(PORTS_AT);
}

/** It was revived a moment ago, and lives for a minute: all of it is there, with its port. */
function look(i: number): void {
  const key = flow(i);
  const entry = tables.conntrack.lookup(encodeKey(key));
  if (!entry || (decode(shape.ct_entry, entry) as CtEntry).expires < 10) result.lost.conntrack++;
  const value = tables.nat.lookup(encodeKey(key));
  if (!value) {
    result.lost.forward++;
    return;
  }
  const { port } = decode(shape.nat_entry, value) as NatEntry;
  if (ports.get(i) !== port) result.lost.port++;
  const back = { src: dst, dst: order.node, sport: 443, dport: port };
  if (!tables.nat.lookup(encodeKey({ ...back, protocol: 6, kind: KIND.IN }))) result.lost.reverse++;
}

/** In place, as time does it. */
function expire(i: number): void {
  const key = flow(i);
  end(tables.conntrack, shape.ct_entry.fields.expires.offset, key);
  const half = end(tables.nat, shape.nat_entry.fields.expires.offset, key);
  if (!half) return;
  const { port } = decode(shape.nat_entry, half) as NatEntry;
  const back = { src: dst, dst: order.node, sport: 443, dport: port };
  end(tables.nat, shape.nat_entry.fields.expires.offset, { ...back, protocol: 6, kind: KIND.IN });
}

function end(map: BpfMap, expires: number, key: FlowKey): Uint8Array | undefined {
  const value = map.lookup(encodeKey(key));
  if (!value) return undefined;
  new DataView(value.buffer).setUint32(expires, 1, true);
  map.update(encodeKey(key), value);
  return value;
}

function open(name: string): BpfMap {
  const map = openPinnedMap(join(order.bpffs, family, name));
  if (!map) throw new Error(`no map ${name}`);
  return map;
}
