import { nth } from '../../lib/scene.ts';
import { alternating, pairedRatios, roundsOr, type Summary, summarise } from '../statistics.ts';
import { openVariant, type VariantName, WORLD } from './masquerades.ts';
import { CPU, runTool, serveTool } from './tools.ts';
import { openEach, type Variant } from './variant.ts';

const RUN_MS = 1000;
const ROUNDS = roundsOr(7);
/** The masquerade's ports in both variants, and the sockets that want one towards one address. */
const RANGE: [number, number] = [40_000, 41_023];
const HELD = { first: 10_000, count: 1024 };
const REFUSED = 3000;
const FLOOD_PORT = 9000;
/** Of the flow that has its port: another destination. */
const OTHER_PORT = 9001;
/** Refused packets a second beside it. */
const PACE = 20_000;
/** Ports that stayed free until the refused asked for them; beyond it the range was not full. */
const THROUGH_LIMIT = 0.05;

const REFUSERS = ['nftables', 'sekisho'] as const satisfies VariantName[];
type Refuser = (typeof REFUSERS)[number];

/** What refusing costs, and what it costs others. */
export interface Refusal {
  ports: number;
  /** Packets without a port that one core disposes of in a second, the sender's own work included. */
  refusedPerSecond: Record<Refuser, Summary>;
  /** Exchanges a second of another flow on the same core, with and without the flood beside it. */
  alone: Record<Refuser, Summary>;
  beside: Record<Refuser, Summary>;
  /** beside/alone, in pairs. */
  kept: Record<Refuser, Summary>;
  refusedRatio: Summary;
  samples: Record<Refuser, RefusalSample[]>;
}

interface RefusalSample {
  refusedPerSecond: number;
  alone: number;
  beside: number;
  /** Of the flood's packets, those that got a port after all. */
  through: number;
}

export async function measureRefusal(): Promise<Refusal> {
  await using variants = await openEach(REFUSERS, (name) => openVariant(name, { ports: RANGE }));
  const samples = { nftables: [], sekisho: [] } as Record<Refuser, RefusalSample[]>;
  for (const variant of variants.all) await refuse(variant, RUN_MS, 0);
  for (const variant of alternating(variants.all, ROUNDS)) {
    samples[variant.name as Refuser].push(await sample(variant));
  }
  const each = <T>(make: (name: Refuser) => T) =>
    Object.fromEntries(REFUSERS.map((name) => [name, make(name)])) as Record<Refuser, T>;
  const values = (name: Refuser, field: keyof RefusalSample) =>
    samples[name].map((sample) => sample[field]);
  const refusedPerSecond = (name: Refuser) => values(name, 'refusedPerSecond');
  return {
    ports: RANGE[1] - RANGE[0] + 1,
    refusedPerSecond: each((name) => summarise(refusedPerSecond(name))),
    alone: each((name) => summarise(values(name, 'alone'))),
    beside: each((name) => summarise(values(name, 'beside'))),
    kept: each((name) => summarise(pairedRatios(values(name, 'beside'), values(name, 'alone')))),
    refusedRatio: summarise(
      pairedRatios(refusedPerSecond('sekisho'), refusedPerSecond('nftables')),
    ),
    samples,
  };
}

async function sample(variant: Variant): Promise<RefusalSample> {
  const { refusedPerSecond, through } = await refuse(variant, RUN_MS, 0);
  const alone = await exchanges(variant);
  const [flood, beside] = await Promise.all([
    refuse(variant, 2 * RUN_MS, PACE),
    exchanges(variant),
  ]);
  return { refusedPerSecond, alone, beside, through: Math.max(through, flood.through) };
}

/** Fills the range towards one destination, then asks for more. */
async function refuse(variant: Variant, milliseconds: number, pace: number) {
  const { topo } = variant;
  await using sink = await serveTool(topo.world, CPU.other, 'udp-sink', FLOOD_PORT);
  const sockets = [HELD.first, HELD.count + REFUSED, HELD.count];
  const args = [WORLD.first, FLOOD_PORT, ...sockets, 1, milliseconds, pace];
  const flood = await runTool(nth(topo.pods).ns, CPU.measured, 'udp-flood', ...args);
  const { received, warmup } = await sink.end();
  const through = received / flood.sent;
  if (through > THROUGH_LIMIT || warmup < HELD.count / 2) {
    const fate = `${received} of ${flood.sent} packets got through, ${warmup} before`;
    throw new Error(`${variant.name} did not run out of ports: ${fate}`);
  }
  return { refusedPerSecond: ((flood.sent - received) * 1e9) / flood.elapsedNs, through };
}

async function exchanges(variant: Variant): Promise<number> {
  const { topo } = variant;
  await using server = await serveTool(topo.world, CPU.measured, 'tcp-server', 'echo', OTHER_PORT);
  const host = nth(topo.worldAddresses).ipv4;
  const pod = nth(topo.pods).ns;
  const result = await runTool(pod, CPU.measured, 'tcp-rr', host, OTHER_PORT, RUN_MS);
  await server.end();
  return (result.exchanges * 1e9) / result.elapsedNs;
}
