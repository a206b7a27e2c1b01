import { service_flag } from '../../../agent/abi/generated.ts';
import { PEOPLE, type Rig } from '../../datapath/rig.ts';
import { addNode, OTHER, OWN } from '../../datapath/tunnel-rows.ts';
import { buildTunnelled } from '../../lib/geneve.ts';
import { buildPacket, type Packet } from '../../lib/packet.ts';
import { type FlowKey, KIND } from '../../lib/tables.ts';
import { FIRST_PORT } from './flows.ts';
import { firstHandoffs } from './handoffs.ts';
import type { Hook, Run } from './runner.ts';
import { addNodeAddresses, addServices, FIRST, PORT, SERVED } from './service-places.ts';

const { A, N, W } = PEOPLE.ipv4;
const TCP = 6;
const PAYLOAD = new Uint8Array(64);
/** Outer IPv4, UDP, Geneve, its option, inner Ethernet. */
const TUNNEL = 62;
const { SERVICE_FROM_OUTSIDE: OUTSIDE, SERVICE_DSR: DIRECT } = service_flag;

/** What one hook sees of a service's flows, under the name of its row. */
export interface Leg {
  path: ServicePath;
  hook: Hook;
  /** The first packet of every flow. */
  opening: Run;
  /** The next one, after which all of them are established. */
  confirming(): Run;
  /** What follows then. */
  established(repeat: number): Run;
}

/** Kinds of service flows, each with the hooks it meets in the order in which packets do. */
export const SCENES = {
  clusterIp: {
    rows(rig) {
      addServices(rig, 'inside', 'here', 0);
    },
    legs: (_, flows) => [
      leg('cluster_ip', 'from_endpoint', flows, request(A, FIRST.inside, PORT), {
        served: 'led to its backend',
      }),
      leg('cluster_ip_answer', 'from_endpoint', flows, answer(FIRST.here, A), {
        ...{ served: 'sent as the frontend', answers: true, byOther: true },
      }),
    ],
  },
  clusterIpAway: {
    rows(rig) {
      addServices(rig, 'inside', 'away', 0);
    },
    legs: (_, flows) => [
      leg('cluster_ip_away', 'from_endpoint', flows, request(A, FIRST.inside, PORT), {
        served: 'led to its backend',
      }),
      leg('cluster_ip_away_answer', 'from_netdev', flows, answer(FIRST.away, A), {
        ...{ served: 'sent as the frontend', answers: true },
      }),
    ],
  },
  nodePort: {
    rows(rig) {
      addNodeAddresses(rig);
      addServices(rig, 'outside', 'here', OUTSIDE);
    },
    legs: (_, flows) => [
      leg('node_port', 'from_netdev', flows, request(W, FIRST.outside, PORT), {
        served: 'led to its backend',
      }),
      leg('node_port_answer', 'from_endpoint', flows, answer(FIRST.here, W), {
        ...{ served: 'sent as the frontend', answers: true, byOther: true },
      }),
    ],
  },
  nodePortAway: {
    rows(rig) {
      addNodeAddresses(rig);
      addServices(rig, 'outside', 'away', OUTSIDE);
    },
    legs: (rig, flows) => nodePortAway(rig, flows),
  },
  dsrMiddle: {
    rows(rig) {
      addNode(rig, FIRST.away);
      addServices(rig, 'outside', 'away', OUTSIDE | DIRECT);
    },
    legs: (_, flows) => [
      leg('dsr_wrap', 'from_netdev', flows, request(W, FIRST.outside, PORT), {
        ...{ served: 'wrapped', apart: true },
      }),
    ],
  },
  dsrBackend: {
    rows(rig) {
      addNode(rig, FIRST.away);
      addServices(rig, 'outside', 'here', OUTSIDE | DIRECT);
    },
    legs: (_, flows) => [
      leg('dsr_unwrap', 'from_netdev', flows, tunnelled, {
        ...{ served: 'unwrapped', apart: true, tunnel: TUNNEL },
      }),
      leg('dsr_answer', 'from_endpoint', flows, answer(FIRST.here, W), {
        ...{ served: 'sent as the frontend', answers: true, byOther: true },
      }),
    ],
  },
} satisfies Record<string, Scene>;

interface Scene {
  rows(rig: Rig): void;
  /** For so many flows, none of which has begun. */
  legs(rig: Rig, flows: number): Leg[];
}

export type ServicePath =
  | 'cluster_ip'
  | 'cluster_ip_answer'
  | 'cluster_ip_away'
  | 'cluster_ip_away_answer'
  | 'node_port'
  | 'node_port_answer'
  | 'node_port_away'
  | 'node_port_away_leaving'
  | 'node_port_away_answer'
  | 'dsr_wrap'
  | 'dsr_unwrap'
  | 'dsr_answer';

type Frame = (flags: string) => Packet | Uint8Array;

function leg(path: ServicePath, hook: Hook, flows: number, frame: Frame, extra: Partial<Run>): Leg {
  const run = (flags: string, repeat = flows): Run => ({
    ...{ packet: frame(flags), flows, repeat },
    ...extra,
  });
  return {
    path,
    hook,
    opening: run(extra.answers ? 'SA' : 'S'),
    confirming: () => run('A'),
    established: (repeat) => run('A', repeat),
  };
}

/**
 * Established packets leave as the node in the second in which to_netdev has looked at their
 * halves, and pass it unread.
 */
function nodePortAway(rig: Rig, flows: number): Leg[] {
  const incoming = request(W, FIRST.outside, PORT);
  const onward = request(W, FIRST.away, SERVED);
  const flow = { src: W, dst: FIRST.away, sport: FIRST_PORT, dport: SERVED, protocol: TCP };
  const key: FlowKey = { ...flow, kind: KIND.OUT };
  const handoffs = firstHandoffs(rig, 'from_netdev', key, (flags) =>
    buildPacket(request(W, FIRST.outside, PORT, FIRST_PORT)(flags)),
  );
  const settle = (): Run => {
    return { packet: onward('A'), flows, repeat: flows, handoff: handoffs.due() };
  };
  const client = leg('node_port_away', 'from_netdev', flows, incoming, {
    served: 'led to its backend',
  });
  return [
    {
      ...client,
      established: (repeat) => ({
        ...client.established(repeat),
        ...{ served: 'led to its backend as the node', settle: settle() },
      }),
    },
    {
      ...{ path: 'node_port_away_leaving', hook: 'to_netdev' },
      opening: { packet: onward('S'), flows, repeat: flows, handoff: handoffs.of('S') },
      confirming: settle,
      established: (repeat) => ({
        ...{ packet: onward('A'), flows, repeat, settle: settle(), handoff: handoffs.vouched() },
      }),
    },
    leg('node_port_away_answer', 'from_netdev', flows, answer(FIRST.away, N), {
      ...{ served: 'sent as the frontend', answers: true },
    }),
  ];
}

/** A client's packet; the wrapper fills in its port. */
function request(src: string, dst: string, dport: number, sport = 1) {
  return (flags: string): Packet => ({ ip: { src, dst }, tcp: { sport, dport, flags } });
}

function answer(src: string, dst: string) {
  return (flags: string): Packet => ({
    ip: { src, dst },
    tcp: { sport: SERVED, dport: 1, flags },
  });
}

function tunnelled(flags: string): Uint8Array {
  return buildTunnelled({
    ...{ from: OTHER, to: OWN, frontend: { address: FIRST.outside, port: PORT } },
    inner: { ...request(W, FIRST.here, SERVED)(flags), payload: PAYLOAD },
  });
}
