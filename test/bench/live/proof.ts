import type { Topology } from '../../lib/topology.ts';
import type { Seen } from './tools.ts';

/** What the first node's stack has forwarded so far, and how many flows its conntrack knows. */
export interface Look {
  forwarded: number;
  tracked: number;
}

/** The way that is to be measured. */
export interface Way {
  /** Of the variant. */
  name: string;
  /** As whom the server sees the client. */
  peer: string;
  /** Of the packets, what passes the first node's own forwarding. */
  byStack: keyof typeof FORWARDED;
  /** The first node's conntrack knows the flows. */
  tracked: boolean;
}

export interface Passed {
  before: Look;
  after: Look;
  seen: Seen;
  packets: number;
}

/** Whether so many of so many were forwarded: IPVS sends on by itself what clients say. */
const FORWARDED = {
  all: (forwarded: number, packets: number) => forwarded >= packets,
  answers: (forwarded: number) => forwarded > 0,
  none: (forwarded: number, packets: number) => forwarded <= packets / 100,
};

const LOOK = `grep ^Ip: /proc/net/snmp
cat /proc/sys/net/netfilter/nf_conntrack_count 2>/dev/null || echo 0`;

export async function lookAt(topo: Topology): Promise<Look> {
  const { stdout } = await topo.node.exec('sh', '-c', LOOK);
  const [names = '', values = '', tracked = ''] = stdout.trimEnd().split('\n');
  const column = names.split(' ').indexOf('ForwDatagrams');
  return { forwarded: Number(values.split(' ')[column]), tracked: Number(tracked) };
}

/** Fails unless `passed.packets` packets went this way. */
export function assertWay(way: Way, { before, after, seen, packets }: Passed): void {
  const fail = (what: string): never => {
    throw new Error(`${way.name} did not do what is measured: ${what}`);
  };
  const { peer, strangers } = seen;
  if (peer !== way.peer || strangers > 0) {
    fail(`the server saw ${peer} and ${strangers} others, not ${way.peer} alone`);
  }
  const forwarded = after.forwarded - before.forwarded;
  if (!FORWARDED[way.byStack](forwarded, packets)) {
    fail(`the node's stack forwarded ${forwarded} of ${packets} packets`);
  }
  if (after.tracked > 0 !== way.tracked) {
    fail(`the kernel's conntrack holds ${after.tracked} flows`);
  }
}
