import { nth } from '../../lib/scene.ts';
import { CPU, type Printed, runTool, type Spent, serveTool } from './tools.ts';
import { type Variant, WORLD } from './variants.ts';

export const PORT = 9000;
/** Of the flood's sockets; inside the masquerade's range, so that they can be kept. */
const FIRST_PORT = 33_000;
/** Of the datagrams; beyond it a run says nothing about the path. */
const LOSS_LIMIT = 0.5;

/** What one run of a load yields. */
export interface Sample {
  /** Per second of time. */
  value: number;
  /** Per second of CPU time of the load's programs: steadier where others want the CPU too. */
  perCpuSecond: number;
  details: Record<string, number>;
}

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

/** Every load that is compared between the four variants. */
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

async function bulk(variant: Variant, milliseconds: number): Promise<Sample> {
  const { client, server } = await exchange(variant, 'discard', CPU.measured, 'tcp-bulk', [
    milliseconds,
  ]);
  if (server.received !== client.bytes) {
    throw new Error(`${variant.name}: ${server.received} of ${client.bytes} bytes arrived`);
  }
  return sample(client.bytes * 8, client, server.cpuNs, { ...client });
}

async function requestResponse(variant: Variant, milliseconds: number): Promise<Sample> {
  const run = await exchange(variant, 'echo', CPU.measured, 'tcp-rr', [milliseconds]);
  return sample(run.client.exchanges, run.client, run.server.cpuNs, { ...run.client });
}

async function connections(
  variant: Variant,
  milliseconds: number,
  concurrent: number,
  serverCpu: number,
): Promise<Sample> {
  const args = [concurrent, milliseconds];
  const { client, server } = await exchange(variant, 'echo', serverCpu, 'tcp-crr', args);
  if (client.failed > 0) {
    throw new Error(`${variant.name}: ${client.failed} of ${client.connections} were refused`);
  }
  return sample(client.connections, client, server.cpuNs, { ...client });
}

/** A client in the pod against a server in the world, and the proof of the way between them. */
async function exchange<T extends 'tcp-bulk' | 'tcp-rr' | 'tcp-crr'>(
  variant: Variant,
  mode: 'echo' | 'discard',
  serverCpu: number,
  tool: T,
  args: number[],
): Promise<{ client: Printed[T]; server: Printed['tcp-server'] }> {
  const { topo } = variant;
  const before = await variant.look();
  await using serving = await serveTool(topo.world, serverCpu, 'tcp-server', mode, PORT);
  const host = nth(topo.worldAddresses).ipv4;
  const client = await runTool(nth(topo.pods).ns, CPU.measured, tool, host, PORT, ...args);
  const server = await serving.end();
  variant.assertPath(before, await variant.look(), server, server.received / 65_536);
  return { client, server };
}

async function datagrams(
  variant: Variant,
  milliseconds: number,
  sockets: number,
  destinations: number,
): Promise<Sample> {
  const { topo } = variant;
  const before = await variant.look();
  await using sink = await serveTool(topo.world, CPU.other, 'udp-sink', PORT);
  const flows = [FIRST_PORT, sockets, 0, destinations, milliseconds, 0];
  const pod = nth(topo.pods).ns;
  const sent = await runTool(pod, CPU.measured, 'udp-flood', WORLD.first, PORT, ...flows);
  const { received, warmup, ...seen } = await sink.end();
  const lost = sent.sent - received;
  if (sent.refused > 0 || lost > sent.sent * LOSS_LIMIT) {
    const fate = `${lost} of ${sent.sent} datagrams were lost, ${sent.refused} not sent`;
    throw new Error(`${variant.name}: ${fate}`);
  }
  variant.assertPath(before, await variant.look(), seen, received + warmup);
  return sample(received, sent, 0, { ...sent, received, lost });
}

function sample(
  count: number,
  { elapsedNs, cpuNs }: Spent,
  serverCpuNs: number,
  details: Record<string, number>,
): Sample {
  return {
    value: (count * 1e9) / elapsedNs,
    perCpuSecond: (count * 1e9) / (cpuNs + serverCpuNs),
    details: { ...details, serverCpuNs },
  };
}
