import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { type Output, type RunOptions, run, tryRun } from './command.ts';

/** One network namespace. Commands enter it by nsenter: `ip netns exec` would hide the bpffs. */
export interface Namespace {
  name: string;
  /** Runs a command in it; rejects unless it exits with 0. */
  exec(...command: string[]): Promise<Output>;
  /** Runs a command in it, whatever its exit status. */
  tryExec(...command: string[]): Promise<Output>;
  /** Starts a long-lived process in it; the pid is that of the program. */
  spawn(command: readonly string[], options?: SpawnOptions): ChildProcess;
  /** Runs many `ip` commands, one a line. */
  ip(...lines: string[]): Promise<void>;
}

/** A handle on a namespace that exists, or will. */
export function namespace(name: string): Namespace {
  const enter = ['nsenter', `--net=/run/netns/${name}`];
  const options: RunOptions = {};
  return {
    name,
    exec: (...command) => run([...enter, ...command], options),
    tryExec: (...command) => tryRun([...enter, ...command], options),
    spawn(command, spawnOptions = {}) {
      const [file = '', ...args] = [...enter, ...command];
      return spawn(file, args, spawnOptions);
    },
    async ip(...lines) {
      await run(['ip', '-n', name, '-batch', '-'], { input: `${lines.join('\n')}\n` });
    },
  };
}

/**
 * Makes a namespace with loopback up, forwarding on, and no wait for duplicate address detection
 * on the interfaces that are made in it later.
 */
export async function createNamespace(name: string): Promise<Namespace> {
  await run(['ip', 'netns', 'add', name]);
  const ns = namespace(name);
  await sysctl(ns, {
    'net.ipv4.ip_forward': 1,
    'net.ipv6.conf.all.forwarding': 1,
    'net.ipv4.conf.all.rp_filter': 0,
    'net.ipv4.conf.default.rp_filter': 0,
    'net.ipv6.conf.all.accept_dad': 0,
    'net.ipv6.conf.default.accept_dad': 0,
    'net.ipv6.conf.default.accept_ra': 0,
    'net.ipv4.icmp_ratelimit': 0,
    'net.ipv4.ping_group_range': '0 2147483647',
  });
  await ns.ip('link set lo up');
  return ns;
}

/** Writes kernel settings of the namespace. */
export async function sysctl(
  ns: Namespace,
  settings: Record<string, string | number>,
): Promise<void> {
  const writes = Object.entries(settings).map(
    ([key, value]) => `echo '${value}' > /proc/sys/${key.replaceAll('.', '/')}`,
  );
  await ns.exec('sh', '-ec', writes.join('\n'));
}
