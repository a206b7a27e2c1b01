import { probeCapabilities } from '../../../agent/kernel/capabilities.ts';
import { type Family, openRig, type Rig, type RigSettings } from '../../datapath/rig.ts';
import { type Flows, makeFlows, type Proto } from './flows.ts';
import { HOOKS, type Hook, type Run } from './runner.ts';
import type { ServicePath } from './service-scenes.ts';

/**
 * Packets of one established flow, of many in turn, of flows that begin, of flows without a port;
 * and of many whose halves are due for a look, as each flow's first packet of a second is.
 */
export type State = 'hot' | 'many' | 'new' | 'refused' | 'due';

/** `out`: from_endpoint and to_netdev, all that a packet to the world meets. */
export type Path = Hook | 'out' | ServicePath;

export interface Reading<T> {
  family: Family;
  proto: Proto;
  path: Path;
  state: State;
  value: T;
}

/** Looks at a hook while it handles a run of packets. */
export interface Meter<T> {
  /** A run that cannot be repeated: its packets open flows. */
  once(hook: Hook, run: Run): T;
  /** Once or as often as it takes. */
  steady(hook: Hook, run: Run): T;
}

export interface Walk<T> {
  /** Flows of the state `many`, each opened once for `new`. */
  many: number;
  /** Packets in a run of established flows. */
  repeat: number;
  meter(rig: Rig, stack: DisposableStack): Meter<T>;
}

/** A range that is soon full, and flows that ask for more. */
const FULL = { range: [40_000, 40_063] as [number, number], held: 64, flows: 20_000 };

/** Takes the meter along every path of one family and protocol. */
export async function walkPaths<T>(
  family: Family,
  proto: Proto,
  walk: Walk<T>,
): Promise<Reading<T>[]> {
  const readings: Reading<T>[] = [];
  const note = (state: State, values: [Hook, T][]) => {
    for (const [path, value] of values) readings.push({ family, proto, path, state, value });
  };
  const stage = async (count: number, settings: RigSettings, visit: Visit<T>) => {
    using stack = new DisposableStack();
    const { fibSkipNeigh, csumIpv6 } = probeCapabilities();
    await using rig = await openRig(family, { fibSkipNeigh, csumIpv6, ...settings });
    visit(walk.meter(rig, stack), makeFlows(rig, family, proto, count));
  };
  await stage(1, { tableSize: 131_072 }, (meter, flows) => {
    open(meter, flows, 1);
    note('hot', steady(meter, flows, walk.repeat));
  });
  await stage(walk.many, { tableSize: 524_288 }, (meter, flows) => {
    note('new', open(meter, flows, walk.many));
    note('many', steady(meter, flows, walk.repeat));
    note('due', due(meter, flows, walk.many));
  });
  await stage(FULL.flows, { portRange: FULL.range, tableSize: 131_072 }, (meter, flows) => {
    note('refused', refuse(meter, flows));
  });
  return readings;
}

type Visit<T> = (meter: Meter<T>, flows: Flows) => void;

/** Opens every flow by its own packets. */
function open<T>(meter: Meter<T>, flows: Flows, count: number): [Hook, T][] {
  const opening = flows.opening(count);
  const readings: [Hook, T][] = [
    ['from_endpoint', meter.once('from_endpoint', opening)],
    ['to_netdev', meter.once('to_netdev', opening)],
    ['from_netdev', meter.once('from_netdev', flows.answer(count))],
  ];
  meter.once('from_endpoint', flows.due(count));
  meter.once('to_netdev', flows.due(count));
  return readings;
}

function steady<T>(meter: Meter<T>, flows: Flows, repeat: number): [Hook, T][] {
  const run = (hook: Hook) =>
    hook === 'from_netdev' ? flows.reply(repeat) : flows.established(repeat);
  return HOOKS.map((hook) => [hook, meter.steady(hook, run(hook))]);
}

function due<T>(meter: Meter<T>, flows: Flows, count: number): [Hook, T][] {
  return (['from_endpoint', 'to_netdev'] as const).map((hook) => [
    hook,
    meter.steady(hook, flows.due(count)),
  ]);
}

function refuse<T>(meter: Meter<T>, flows: Flows): [Hook, T][] {
  meter.once('to_netdev', flows.opening(FULL.held));
  const run = { ...flows.opening(FULL.flows - FULL.held, FULL.held), refused: true };
  return [
    ['from_endpoint', meter.steady('from_endpoint', run)],
    ['to_netdev', meter.steady('to_netdev', run)],
  ];
}
