import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import type { Output } from './command.ts';
import type { Node, Topology } from './topology.ts';
import { slowly } from './wait.ts';

export const BINARY = fileURLToPath(new URL('../../bin/sekisho', import.meta.url));
const START_LIMIT = slowly(30_000);

/** Sections of the configuration file, as a user would write them. */
export type Settings = Record<string, unknown>;

export interface LogLine {
  level: string;
  msg: string;
  [field: string]: unknown;
}

/** A running daemon. Disposing stops it; what it pinned stays, as after any stop. */
export interface Agent extends AsyncDisposable {
  pid: number;
  configFile: string;
  /** What it has logged so far. */
  logs: LogLine[];
  /** SIGTERM; resolves with the exit status. */
  stop(): Promise<number>;
  kill9(): Promise<void>;
  signal(signal: NodeJS.Signals): void;
}

/** The topology's first node as a configuration: its device, pods, pins and socket. */
export function nodeSettings(node: Node): Settings {
  return {
    node: { name: node.name, devices: ['eth0'], podCIDRs: Object.values(node.podCIDRs) },
    endpoints: node.pods.map((pod) => ({
      name: pod.name,
      interface: pod.interface,
      addresses: Object.values(pod.addresses),
    })),
    state: { bpffs: node.bpffs, runDir: node.runDir },
  };
}

/** Writes the node's configuration file, with `settings` instead of or beside the defaults. */
export function configure(node: Node, settings: Settings = {}): string {
  const file = configFile(node);
  mkdirSync(join(node.runDir, '..'), { recursive: true });
  writeFileSync(file, stringify({ ...nodeSettings(node), ...settings }));
  return file;
}

/** A daemon that is on its way. */
export interface LaunchedAgent extends Agent {
  /** Resolves once it says so; rejects with what it said when it ends instead. */
  ready(): Promise<void>;
  /** Its exit status once it has ended; 128 after a signal. */
  ended: Promise<number>;
}

/** Starts the daemon in the node's namespace and waits until it says that it is ready. */
export async function startAgent(
  topo: Topology,
  settings: Settings = {},
  node: Node = firstNode(topo),
): Promise<Agent> {
  const agent = launchAgent(topo, { settings, node });
  await agent.ready();
  return agent;
}

export interface LaunchOptions {
  settings?: Settings;
  node?: Node;
  /** Instead of this checkout's command. */
  binary?: string;
  /** Beside the test's own environment. */
  env?: Record<string, string>;
}

/** Starts the daemon in the node's namespace. */
export function launchAgent(topo: Topology, options: LaunchOptions = {}): LaunchedAgent {
  const { settings = {}, node = firstNode(topo), binary = BINARY, env = {} } = options;
  const file = configure(node, settings);
  const child = node.ns.spawn([binary, 'agent', '--config', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const logs: LogLine[] = [];
  let rest = '';
  const ended = new Promise<number>((resolve) => {
    child.on('error', () => resolve(127));
    child.on('close', (code) => resolve(code ?? 128));
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    rest += text;
  });
  const ready = new Promise<true>((resolve) => {
    if (!child.stdout) return;
    createInterface(child.stdout).on('line', (line) => {
      const entry = parseLog(line);
      if (entry) logs.push(entry);
      else rest += `${line}\n`;
      if (entry?.msg === 'ready') resolve(true);
    });
  });
  const agent: LaunchedAgent = {
    pid: child.pid ?? 0,
    configFile: file,
    logs,
    ended,
    stop() {
      child.kill('SIGTERM');
      return ended;
    },
    async kill9() {
      child.kill('SIGKILL');
      await ended;
    },
    signal: (signal) => void child.kill(signal),
    async ready() {
      const timer = setTimeout(() => child.kill('SIGKILL'), START_LIMIT);
      const outcome = await Promise.race([ready, ended]);
      clearTimeout(timer);
      if (outcome === true) return;
      const said = logs.map((line) => JSON.stringify(line)).join('\n');
      throw new Error(`the daemon ended with ${outcome} before it was ready\n${rest}${said}`);
    },
    async [Symbol.asyncDispose]() {
      const timer = setTimeout(() => child.kill('SIGKILL'), slowly(5000));
      if (child.exitCode === null) child.kill('SIGTERM');
      await ended;
      clearTimeout(timer);
    },
  };
  return topo.use(agent);
}

/** Runs the command line tool in the first node's namespace, whatever its exit status. */
export function sekisho(topo: Topology, ...args: string[]): Promise<Output> {
  const node = firstNode(topo);
  return node.ns.tryExec(BINARY, ...args, '--config', configFile(node));
}

/** What it prints; rejects unless it exits with 0. */
export async function sekishoText(topo: Topology, ...args: string[]): Promise<string> {
  const { stdout, stderr, code } = await sekisho(topo, ...args);
  if (code !== 0) throw new Error(`sekisho ${args.join(' ')}: exit ${code}: ${stderr}`);
  return stdout;
}

/** Like `sekisho`, for another node, or another configuration file. */
export function sekishoOn(node: Node, file: string, ...args: string[]): Promise<Output> {
  return node.ns.tryExec(BINARY, ...args, '--config', file);
}

/** What `-o json` prints. */
export async function sekishoJson<T>(topo: Topology, ...args: string[]): Promise<T> {
  return JSON.parse(await sekishoText(topo, ...args, '-o', 'json')) as T;
}

function firstNode(topo: Topology): Node {
  const [node] = topo.nodes;
  if (!node) throw new RangeError('no node');
  return node;
}

const configFile = (node: Node) => join(node.runDir, '..', 'config.yaml');

function parseLog(line: string): LogLine | undefined {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return undefined;
  }
}
