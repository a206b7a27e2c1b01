import { type Family, PEOPLE, type Rig } from '../../datapath/rig.ts';
import { buildPacket, type Packet } from '../../lib/packet.ts';
import type { Run } from './runner.ts';

export type Proto = 'tcp' | 'udp';

/** Many flows from one pod to the world, step by step of their life. */
export interface Flows {
  /** Their first packet, their first reply, and what follows, as runs of `repeat` packets. */
  opening(repeat: number, from?: number): Run;
  answer(repeat: number): Run;
  established(repeat: number): Run;
  reply(repeat: number): Run;
}

export function makeFlows(rig: Rig, family: Family, proto: Proto, flows: number): Flows {
  const { A, W, N } = PEOPLE[family];
  const ports = (sport: number, dport: number, flags: string) =>
    proto === 'tcp' ? { tcp: { sport, dport, flags } } : { udp: { sport, dport } };
  const out = (flags: string): Packet => ({ ip: { src: A, dst: W }, ...ports(1, 443, flags) });
  const back = (flags: string): Packet => ({ ip: { src: W, dst: N }, ...ports(443, 1, flags) });
  /** What from_endpoint says of the first flow, as the wrapper writes it. */
  const handoff = (flags: string) => {
    const first = { ip: { src: A, dst: firstPeer(W) }, ...ports(32_768, 443, flags) };
    return rig.run('from_endpoint', buildPacket(first)).cb;
  };
  /** The same once the flow's NAT halves have been looked at in this second. */
  const settled = () => {
    for (;;) {
      const cb = handoff('A');
      if (cb[4]) return cb;
      const first = { ip: { src: A, dst: firstPeer(W) }, ...ports(32_768, 443, 'A') };
      rig.run('to_netdev', buildPacket(first), { cb, ingressIfindex: rig.ifindex.a });
    }
  };
  const run = (packet: Packet, repeat: number): Run => ({ packet, repeat, flows });
  return {
    opening: (repeat, from = 0) => ({ ...run(out('S'), repeat), from, handoff: handoff('S') }),
    answer: (repeat) => run(back('SA'), repeat),
    established: (repeat) => ({ ...run(out('A'), repeat), handoff: settled() }),
    reply: (repeat) => run(back('A'), repeat),
  };
}

/** The peer of the wrapper's first flow: its last two bytes are 0. */
function firstPeer(address: string): string {
  return address.includes(':')
    ? address.replace(/[^:]+$/, '0')
    : address.replace(/\d+\.\d+$/, '0.0');
}
