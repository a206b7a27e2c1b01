import { type Family, PEOPLE, type Rig } from '../../datapath/rig.ts';
import { buildPacket, type Packet } from '../../lib/packet.ts';
import { type FlowKey, KIND } from '../../lib/tables.ts';
import { firstHandoffs } from './handoffs.ts';
import type { Run } from './runner.ts';

export type Proto = 'tcp' | 'udp';

/** As the wrapper counts from. */
export const FIRST_PORT = 32_768;

/** Many flows from one pod to the world, step by step of their life. */
export interface Flows {
  /** Their first packet, their first reply, and what follows, as runs of `repeat` packets. */
  opening(repeat: number, from?: number): Run;
  answer(repeat: number): Run;
  established(repeat: number): Run;
  reply(repeat: number): Run;
  /** What follows as well, each flow's first packet of a second: its halves are looked at. */
  due(repeat: number): Run;
}

export function makeFlows(rig: Rig, family: Family, proto: Proto, flows: number): Flows {
  const { A, W, N } = PEOPLE[family];
  const ports = (sport: number, dport: number, flags: string) =>
    proto === 'tcp' ? { tcp: { sport, dport, flags } } : { udp: { sport, dport } };
  const out = (flags: string): Packet => ({ ip: { src: A, dst: W }, ...ports(1, 443, flags) });
  const back = (flags: string): Packet => ({ ip: { src: W, dst: N }, ...ports(443, 1, flags) });
  const [src, dst] = [A, firstPeer(W)];
  /** The first flow, as the wrapper writes it. */
  const first = (flags: string) =>
    buildPacket({ ip: { src, dst }, ...ports(FIRST_PORT, 443, flags) });
  const protocol = proto === 'tcp' ? 6 : 17;
  const key: FlowKey = { src, dst, sport: FIRST_PORT, dport: 443, protocol, kind: KIND.OUT };
  const handoffs = firstHandoffs(rig, 'from_endpoint', key, first);
  const run = (packet: Packet, repeat: number): Run => ({ packet, repeat, flows });
  return {
    opening: (repeat, from = 0) => ({ ...run(out('S'), repeat), from, handoff: handoffs.of('S') }),
    answer: (repeat) => ({ ...run(back('SA'), repeat), answers: true }),
    established: (repeat) => ({
      ...run(out('A'), repeat),
      settle: { ...run(out('A'), flows), handoff: handoffs.due() },
      handoff: handoffs.vouched(),
    }),
    reply: (repeat) => ({ ...run(back('A'), repeat), answers: true }),
    due: (repeat) => ({ ...run(out('A'), repeat), handoff: handoffs.due(), fresh: true }),
  };
}

/** The peer of the wrapper's first flow: its last two bytes are 0. */
function firstPeer(address: string): string {
  return address.includes(':')
    ? address.replace(/[^:]+$/, '0')
    : address.replace(/\d+\.\d+$/, '0.0');
}
