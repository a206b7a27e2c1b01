import { nth } from '../../lib/scene.ts';
import { WORLD } from './masquerades.ts';
import { bulk, connections, requestResponse, type Sample, sample } from './tcp.ts';
import { CPU, runTool, serveTool } from './tools.ts';
import type { Variant } from './variant.ts';

const SINK_PORT = 9000;
/** Of the flood's sockets; inside the masquerade's range, so that they can be kept. */
const FIRST_PORT = 33_000;
/** Of the datagrams; beyond it a run says nothing about the path. */
const LOSS_LIMIT = 0.5;

export interface Load {
  key: string;
  /** The part of `make bench` it belongs to. */
  part: string;
  title: string;
  unit: string;
  /** Divides the value for printing. */
  scale: number;
  /** Rows of Sekisho's tables, where the defaults are too few for the flows. */
  maps?: Record<string, number>;
  /** More of them than the kernel's conntrack may know would be measured as losses. */
  flows?: number;
  run(variant: Variant, milliseconds: number): Promise<Sample>;
}

/** Every load that is compared between the four ways from a pod to the world. */
export const LOADS: readonly Load[] = [
  {
    ...{ key: 'bulk', part: 'bulk', title: 'TCP bulk, 1 core', unit: 'Gbit/s', scale: 1e9 },
    run: bulk,
  },
  {
    ...{ key: 'udp-1', part: 'udp', title: 'UDP 18 bytes, 1 flow', unit: 'kpps', scale: 1e3 },
    run: (variant, milliseconds) => datagrams(variant, milliseconds, 1, 1),
  },
  {
    ...{ key: 'udp-10k', part: 'udp', title: 'UDP 18 bytes, 10k flows', unit: 'kpps', scale: 1e3 },
    run: (variant, milliseconds) => datagrams(variant, milliseconds, 100, 100),
  },
  {
    ...{ key: 'udp-200k', part: 'udp', title: 'UDP 18 bytes, 200k flows' },
    ...{
      unit: 'kpps',
      scale: 1e3,
      maps: { ctTcp: 131_072, ctAny: 524_288, nat: 524_288 },
      flows: 200_000,
    },
    run: (variant, milliseconds) => datagrams(variant, milliseconds, 1000, 200),
  },
  {
    ...{ key: 'rr', part: 'rr', title: 'TCP request–response, 1 core', unit: '/s', scale: 1 },
    run: requestResponse,
  },
  {
    ...{ key: 'crr-1', part: 'crr', title: 'TCP connect–request–close × 1, 1 core' },
    ...{ unit: '/s', scale: 1 },
    run: (variant, milliseconds) => connections(variant, milliseconds, 1, CPU.measured),
  },
  {
    ...{ key: 'crr-32', part: 'crr', title: 'TCP connect–request–close × 32, 2 cores' },
    ...{ unit: '/s', scale: 1 },
    run: (variant, milliseconds) => connections(variant, milliseconds, 32, CPU.other),
  },
];

async function datagrams(
  variant: Variant,
  milliseconds: number,
  sockets: number,
  destinations: number,
): Promise<Sample> {
  const { topo } = variant;
  const before = await variant.look();
  await using sink = await serveTool(topo.world, CPU.other, 'udp-sink', SINK_PORT);
  const flows = [FIRST_PORT, sockets, 0, destinations, milliseconds, 0];
  const pod = nth(topo.pods).ns;
  const sent = await runTool(pod, CPU.measured, 'udp-flood', WORLD.first, SINK_PORT, ...flows);
  const { received, warmup, ...seen } = await sink.end();
  const lost = sent.sent - received;
  if (sent.refused > 0 || lost > sent.sent * LOSS_LIMIT) {
    const fate = `${lost} of ${sent.sent} datagrams were lost, ${sent.refused} not sent`;
    throw new Error(`${variant.name}: ${fate}`);
  }
  variant.assertPath(before, await variant.look(), seen, received + warmup);
  return sample(received, sent, 0, { ...sent, received, lost });
}
