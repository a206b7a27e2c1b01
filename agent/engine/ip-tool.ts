import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { SekishoError } from '../lib/errors.ts';
import type { Logger } from './logger.ts';
import { type NetworkState, parseAddresses, parseDefaultDevices, parseLinks } from './network.ts';

const run = promisify(execFile);

const SETTLE_MS = 100;
const SETTLE_LIMIT_MS = 1000;
const RESTART_MS = 1000;
const LISTENING_EVERY_MS = 25;
const LISTENING_LIMIT_MS = 10_000;
const MONITOR = ['ip', 'monitor', 'link', 'address', 'route'] as const;

/** Reads interfaces, addresses and default routes of this namespace. Throws SekishoError. */
export async function readNetwork(): Promise<NetworkState> {
  const [links, addresses, routes4, routes6] = await Promise.all([
    ip('-json', '-details', 'link', 'show'),
    ip('-json', 'address', 'show'),
    ip('-4', '-json', 'route', 'show', 'default'),
    ip('-6', '-json', 'route', 'show', 'default'),
  ]);
  return {
    interfaces: parseLinks(links),
    addresses: parseAddresses(addresses),
    defaultDevices: parseDefaultDevices(routes4, routes6),
  };
}

async function ip(...args: string[]): Promise<string> {
  try {
    const { stdout } = await run('ip', args, { maxBuffer: 64 << 20 });
    return stdout;
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SekishoError('E_INTERNAL', `cannot run "ip ${args.join(' ')}"`, {
      cause,
      ...(missing && { hint: 'install iproute2' }),
    });
  }
}

/**
 * Calls `changed` when links, addresses or routes may have changed: once events are heard, for
 * what came before; then at the first event, since a new route may lead past the hooks, 100 ms
 * after the last one, and at the latest a second after the first one. Events only mean "read
 * again".
 */
export function watchNetwork(changed: () => void, logger: Logger): Disposable {
  const settle = debounce(changed);
  let child: ChildProcess | undefined;
  let restart: NodeJS.Timeout | undefined;
  let listening: NodeJS.Timeout | undefined;
  let stopped = false;

  const awaitListening = (pid: number | undefined, begun = performance.now()) => {
    const isLate = performance.now() - begun > LISTENING_LIMIT_MS;
    if (isLate || (pid !== undefined && isSubscribed(pid))) settle.trigger();
    else listening = setTimeout(awaitListening, LISTENING_EVERY_MS, pid, begun);
  };

  const start = (viaSetpriv = true) => {
    child = spawnMonitor(viaSetpriv);
    child.stdout?.on('data', settle.trigger);
    clearTimeout(listening);
    awaitListening(child.pid);
    let failed = false;
    const ended = (error?: Error) => {
      if (stopped || failed) return;
      failed = true;
      if (viaSetpriv && (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') {
        start(false);
        return;
      }
      logger.warn({ err: error }, 'ip monitor ended; starting it again');
      restart = setTimeout(() => {
        start(viaSetpriv);
        settle.trigger();
      }, RESTART_MS);
    };
    child.on('error', ended);
    child.on('exit', () => ended());
  };
  start();

  return {
    [Symbol.dispose]() {
      stopped = true;
      clearTimeout(restart);
      clearTimeout(listening);
      settle.cancel();
      child?.kill('SIGKILL');
    },
  };
}

/** setpriv ends the child with the agent, also when the agent is killed. */
function spawnMonitor(viaSetpriv: boolean): ChildProcess {
  const command = viaSetpriv ? ['setpriv', '--pdeathsig', 'KILL', ...MONITOR] : [...MONITOR];
  const [file = 'ip', ...args] = command;
  return spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'] });
}

/** Whether a process hears netlink events by now: the kernel lists its socket with groups. */
function isSubscribed(pid: number): boolean {
  return netlinkSockets().some((line) => {
    const [, protocol, portId, groups = ''] = line.split(/\s+/);
    return protocol === '0' && Number(portId) === pid && Number.parseInt(groups, 16) !== 0;
  });
}

function netlinkSockets(): string[] {
  try {
    return readFileSync('/proc/self/net/netlink', 'utf8').split('\n').slice(1);
  } catch {
    return [];
  }
}

function debounce(action: () => void): { trigger: () => void; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined;
  let first = 0;
  const fire = () => {
    timer = undefined;
    action();
  };
  return {
    trigger() {
      const now = performance.now();
      if (timer === undefined) {
        first = now;
        setImmediate(action);
      }
      clearTimeout(timer);
      timer = setTimeout(fire, Math.min(SETTLE_MS, Math.max(0, first + SETTLE_LIMIT_MS - now)));
    },
    cancel() {
      clearTimeout(timer);
    },
  };
}
