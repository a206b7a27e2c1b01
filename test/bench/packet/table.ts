import { join } from 'node:path';
import { inIsolation } from '../isolation.ts';
import { type Summary, summarise } from '../statistics.ts';
import type { CallCount } from './calls.ts';
import type { Proto } from './flows.ts';
import type { Path, Reading, State } from './paths.ts';
import { REFERENCE, REFERENCE_LOOKUPS, SERVICE_REFERENCE } from './reference.ts';
import { HOOKS, type Hook } from './runner.ts';

const PROCESSES = 5;
const OUT: readonly Hook[] = ['from_endpoint', 'to_netdev'];

export interface PacketRow {
  family: 'ipv4' | 'ipv6';
  proto: Proto;
  path: Path;
  state: State;
  /** Over the processes. */
  ns: Summary;
  processes: number[];
  /** IPv4's; the sources of both families are the same. */
  calls?: CallCount;
  reference?: { ns: number; lookups?: number };
}

/** Measures every path in several processes, and counts its calls in one more. */
export async function measurePackets(progress: (text: string) => void): Promise<PacketRow[]> {
  const runs: Reading<number>[][] = [];
  for (let i = 0; i < PROCESSES; i++) {
    progress(`process ${i + 1} of ${PROCESSES}`);
    runs.push(withSum(await inProcess<number>('cost.ts'), (a, b) => a + b));
  }
  progress('counting calls');
  const calls = withSum(await inProcess<CallCount>('calls.ts'), addCalls);
  return (runs[0] ?? []).map((reading) => makeRow(reading, runs, calls));
}

function inProcess<T>(program: string): Promise<Reading<T>[]> {
  return inIsolation(join(import.meta.dirname, program));
}

/** Adds the way out, which is two hooks. */
function withSum<T>(readings: Reading<T>[], add: (a: T, b: T) => T): Reading<T>[] {
  const sums = readings.flatMap((one) => {
    const other = one.path === 'from_endpoint' && find(readings, { ...one, path: 'to_netdev' });
    return other ? [{ ...one, path: 'out' as const, value: add(one.value, other.value) }] : [];
  });
  return [...readings, ...sums];
}

type Place = Pick<Reading<unknown>, 'family' | 'proto' | 'path' | 'state'>;

function find<T>(readings: Reading<T>[], at: Place): Reading<T> | undefined {
  return readings.find(
    ({ family, proto, path, state }) =>
      family === at.family && proto === at.proto && path === at.path && state === at.state,
  );
}

function addCalls(a: CallCount, b: CallCount): CallCount {
  const names = Object.keys(a) as (keyof CallCount)[];
  return Object.fromEntries(names.map((name) => [name, a[name] + b[name]])) as CallCount;
}

function makeRow(
  { family, proto, path, state }: Place,
  runs: Reading<number>[][],
  counted: Reading<CallCount>[],
): PacketRow {
  const at = { family, proto, path, state };
  const processes = runs.flatMap((run) => find(run, at)?.value ?? []);
  const calls = find(counted, { ...at, family: 'ipv4' })?.value;
  const reference = family === 'ipv4' ? referenceOf(proto, path, state) : undefined;
  return {
    ...at,
    ns: summarise(processes),
    processes,
    ...(calls && { calls }),
    ...(reference && { reference }),
  };
}

function referenceOf(proto: Proto, path: Path, state: State): PacketRow['reference'] {
  const hooks = path === 'out' ? OUT : HOOKS.filter((hook) => hook === path);
  if (hooks.length === 0) return state === 'hot' ? SERVICE_REFERENCE[path] : undefined;
  const ns = hooks.map((hook) => REFERENCE[proto][hook][state]);
  if (!ns.every((value) => value !== undefined)) return undefined;
  const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  const lookups = sum(hooks.map((hook) => REFERENCE_LOOKUPS[hook]));
  return { ns: sum(ns), ...(state !== 'new' && { lookups }) };
}
