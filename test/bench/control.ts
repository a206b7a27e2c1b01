import { join } from 'node:path';
import { formatTable } from '../../agent/cli/text-table.ts';
import type { ApplyResult } from '../../agent/services/view.ts';
import { call } from '../daemon/support.ts';
import { startAgent } from '../lib/daemon.ts';
import { peakMemory } from '../lib/measured.ts';
import { scrape } from '../lib/metrics.ts';
import { bareScene, type Scene } from '../lib/scene.ts';
import { inIsolation } from './isolation.ts';
import type { MaglevFigures } from './maglev.ts';
import { roundsOr, type Summary, summarise } from './statistics.ts';
import { withRange } from './text.ts';

const SERVICES = Number(process.env.CONTROL_SERVICES ?? 10_000);
const BACKENDS = 10;
const ROUNDS = roundsOr(5);
const MAGLEV = join(import.meta.dirname, 'maglev.ts');
const LAG = 'nodejs_eventloop_lag_max_seconds';

/** What is measured, in the order in which it is done; each starts where the one before ended. */
export const STEPS = {
  start: 'start of a daemon without services',
  first: 'applied first',
  unchanged: 'applied again, unchanged',
  changed: 'applied again, one backend changed',
  alone: 'that service alone, the backend changed back',
  restart: 'restart of the daemon with them',
} as const;
export type Step = keyof typeof STEPS;

export interface StepFigures {
  /** As whoever asks for it sees it. */
  seconds: Summary;
  /** Longest delay of the daemon's event loop, as its metrics have it; 10 is none. */
  longestLagMs: Summary;
}

/** A daemon with so many services. */
export interface ControlFigures {
  services: number;
  backends: number;
  steps: Record<Step, StepFigures>;
  /** Peak of the daemon's memory, before it is started again. */
  megabytes: Summary;
  maglev: MaglevFigures;
}

interface Reading {
  seconds: number;
  lagMs: number;
}

/** Every round has a node of its own. Takes some half a minute each. */
export async function measureControl(): Promise<ControlFigures> {
  const rounds: Awaited<ReturnType<typeof runSteps>>[] = [];
  for (let round = 0; round < ROUNDS; round++) rounds.push(await runSteps());
  const figures = (step: Step): StepFigures => ({
    seconds: summarise(rounds.map(({ steps }) => steps[step].seconds)),
    longestLagMs: summarise(rounds.map(({ steps }) => steps[step].lagMs)),
  });
  return {
    ...{ services: SERVICES, backends: BACKENDS },
    steps: Object.fromEntries(stepNames().map((step) => [step, figures(step)])) as Record<
      Step,
      StepFigures
    >,
    megabytes: summarise(rounds.map(({ megabytes }) => megabytes)),
    maglev: await inIsolation<MaglevFigures>(MAGLEV, { everyCpu: true }),
  };
}

async function runSteps() {
  await using scene = await bareScene();
  const { topo } = scene;
  const steps = {} as Record<Step, Reading>;
  /** A scrape resets the metric; after a start it is the start's. */
  const take = async <T>(step: Step, work: () => Promise<T>): Promise<T> => {
    await scrape(topo).catch(() => {});
    const begun = performance.now();
    const result = await work();
    const seconds = (performance.now() - begun) / 1000;
    steps[step] = { seconds, lagMs: (await scrape(topo)).sum(LAG) * 1000 };
    return result;
  };
  const [before, [changed]] = [services(0), services(1)];
  const first = before.slice(0, 1);
  if (!changed) throw new RangeError('no services');
  const agent = await take('start', () => startAgent(topo));
  await take('first', () => apply(scene, before, { created: SERVICES }));
  await take('unchanged', () => apply(scene, before, { unchanged: SERVICES }));
  const mixed = { updated: 1, unchanged: SERVICES - 1 };
  await take('changed', () => apply(scene, [changed, ...before.slice(1)], mixed));
  await take('alone', () => apply(scene, first, { updated: 1 }));
  const megabytes = peakMemory(agent.pid);
  const { logs } = await take('restart', async () => {
    await agent.stop();
    return startAgent(topo);
  });
  if (logs.some(({ msg }) => msg === 'services applied')) {
    throw new Error('the restart changed something');
  }
  return { steps, megabytes };
}

async function apply(
  scene: Scene,
  services: readonly object[],
  expected: Partial<Record<ApplyResult['result'], number>>,
): Promise<void> {
  const { status, body } = await call(scene, 'POST', '/v1/services', { services });
  const results = (body.services ?? []) as ApplyResult[];
  for (const [result, count] of Object.entries(expected)) {
    const found = results.filter((service) => service.result === result).length;
    if (status !== 200 || found !== count) {
      throw new Error(`${found} of ${count} services were ${result}: ${status}`);
    }
  }
}

/** All services; the first one has another backend in every version. */
function services(version: number): object[] {
  return Array.from({ length: SERVICES }, (_, i) => ({
    name: `service-${i}`,
    frontends: [{ address: `10.96.${i >> 8}.${i & 0xff}`, port: 80, protocol: 'TCP' }],
    backends: Array.from({ length: BACKENDS }, (_, j) => ({
      ...{ address: `10.${128 + j}.${i >> 8}.${i & 0xff}`, weight: 1 },
      port: 8000 + (i === 0 && j === 0 ? version : 0),
    })),
  }));
}

/** Tables to print. */
export function controlLines({
  services,
  backends,
  steps,
  megabytes,
  maglev,
}: ControlFigures): string[] {
  const rows = stepNames().map((step) => {
    const { seconds, longestLagMs } = steps[step];
    return [STEPS[step], withRange(seconds), withRange(longestLagMs)];
  });
  const { slots, milliseconds, tables } = maglev;
  return [
    `${services} services of ${backends} backends: median (range)`,
    '',
    ...formatTable(['', 's', 'longest lag ms'], rows),
    '',
    `The daemon's memory: ${withRange(megabytes)} MB`,
    `A Maglev table of ${slots} slots for ${maglev.backends} backends: ${withRange(milliseconds)} ms`,
    `${tables} of them, in threads: ${maglev.seconds.toFixed(2)} s, longest gap of the event loop ${maglev.longestGapMs.toFixed(1)} ms`,
  ];
}

function stepNames(): Step[] {
  return Object.keys(STEPS) as Step[];
}
