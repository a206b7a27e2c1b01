import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Namespace } from '../../lib/netns.ts';

const BUILT = join(import.meta.dirname, '..', '..', '..', 'build', 'bench');

/** The tools of test/bench/tools and what they print. */
export interface Printed {
  'udp-flood': { sent: number; refused: number } & Spent;
  'udp-sink': { received: number; warmup: number } & Seen;
  'tcp-server': { received: number; connections: number } & Seen;
  'tcp-bulk': { bytes: number } & Spent;
  'tcp-fetch': { bytes: number } & Spent;
  'tcp-rr': { exchanges: number; p50Ns: number; p99Ns: number } & Spent;
  'tcp-crr': { connections: number; failed: number } & Spent;
}

/** Time that passed, and CPU time of the tool with the packets it pushed through the stack. */
export interface Spent {
  elapsedNs: number;
  cpuNs: number;
}

/** As whom the other side came. */
export interface Seen {
  cpuNs: number;
  peer: string;
  /** Packets or connections from any other address. */
  strangers: number;
}

export type Tool = keyof Printed;

/** The CPU that is measured, and one for what must not disturb it. */
export const CPU = {
  measured: availableParallelism() - 1,
  other: Math.max(0, availableParallelism() - 2),
};

/** A tool that serves until `end`. */
export interface Server<Result> extends AsyncDisposable {
  /** Asks for its end and resolves with what it printed. */
  end(): Promise<Result>;
}

/** Runs a tool in a namespace, on one CPU, to its end. Rejects when it fails. */
export async function runTool<T extends Tool>(
  ns: Namespace,
  cpu: number,
  tool: T,
  ...args: (string | number)[]
): Promise<Printed[T]> {
  const { stdout } = await ns.exec(...command(cpu, tool, args));
  return JSON.parse(stdout) as Printed[T];
}

/** Starts a tool that serves; resolves once its port is open. */
export async function serveTool<T extends 'udp-sink' | 'tcp-server'>(
  ns: Namespace,
  cpu: number,
  tool: T,
  ...args: (string | number)[]
): Promise<Server<Printed[T]>> {
  const child = ns.spawn(command(cpu, tool, args), { stdio: ['ignore', 'pipe', 'inherit'] });
  const { stdout } = child;
  if (!stdout) throw new Error(`${tool} has no output`);
  const lines = createInterface(stdout)[Symbol.asyncIterator]();
  const ready = await lines.next();
  if (ready.value !== 'ready') throw new Error(`${tool} did not start`);
  const closed = once(child, 'close');
  return {
    async end() {
      child.kill('SIGTERM');
      const { value } = await lines.next();
      await closed;
      if (typeof value !== 'string') throw new Error(`${tool} ended without a word`);
      return JSON.parse(value) as Printed[T];
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await closed;
    },
  };
}

function command(cpu: number, tool: Tool, args: (string | number)[]): string[] {
  return [
    'nice',
    '-n',
    '-20',
    'taskset',
    '-c',
    String(cpu),
    join(BUILT, tool),
    ...args.map(String),
  ];
}
