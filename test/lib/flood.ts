import { buildPacket } from './packet.ts';
import type { FloodFields } from './raw/flood.ts';
import type { RawHandlers } from './raw/program.ts';
import { startRemote } from './remote.ts';
import type { Family, Pod } from './topology.ts';

/** Nobody answers there, and nobody says that nobody is there. */
const SILENT = { ipv4: '198.18.0.1', ipv6: '2001:db8:dead::1' };
const FIELDS: Record<Family, Record<'tcp' | 'udp', FloodFields>> = {
  ipv4: {
    tcp: { address: 32, sport: 34, network: 24, transport: 50 },
    udp: { address: 32, sport: 34, network: 24, transport: 40 },
  },
  ipv6: {
    tcp: { address: 52, sport: 54, transport: 70 },
    udp: { address: 52, sport: 54, transport: 60 },
  },
};

export interface Flood {
  family: Family;
  proto: 'tcp' | 'udp';
  /** Flows, each of one packet. */
  count: number;
  /** Flows in a second at most; as fast as it can by default. */
  rate?: number;
  /** Number of the first; each number is another flow. */
  from?: number;
}

/** Sends first packets of flows out of a pod to where nobody answers. */
export interface Flooder extends AsyncDisposable {
  send(flood: Flood): Promise<void>;
}

export async function openFlooder(pod: Pod): Promise<Flooder> {
  const program = new URL('./raw/program.ts', import.meta.url);
  const remote = await startRemote<RawHandlers>(pod.ns, program);
  return {
    async send({ family, proto, count, from = 0, rate }) {
      const ports = { sport: 1024, dport: 4444 };
      const frame = buildPacket({
        eth: { src: pod.mac, dst: pod.routerMac },
        ip: { src: pod.addresses[family], dst: SILENT[family] },
        ...(proto === 'tcp' ? { tcp: { ...ports, flags: 'S' } } : { udp: ports, payload: 'x' }),
      });
      const fields = FIELDS[family][proto];
      const text = Buffer.from(frame).toString('base64');
      await remote.flood({ device: 'eth0', frame: text, fields, from, count, rate });
    },
    [Symbol.asyncDispose]: () => remote[Symbol.asyncDispose](),
  };
}
