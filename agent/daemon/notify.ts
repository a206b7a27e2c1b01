import type { Logger } from '../engine/logger.ts';
import { sendDatagram } from '../kernel/datagram.ts';
import { monotonicNs } from '../kernel/fs.ts';

/** Tells the service manager how the daemon fares (sd_notify); does nothing without one. */
export interface Notifier extends Disposable {
  /** It serves. From the first time on, the watchdog is fed while the event loop turns. */
  ready(status: string): void;
  reloading(): void;
  /** The last thing that is said. */
  stopping(): void;
}

/**
 * Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of `env`: they are not
 * for child processes. A message that cannot be sent is logged, and that is all.
 */
export function createNotifier(env: NodeJS.ProcessEnv, logger: Logger): Notifier {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC, WATCHDOG_PID } = env;
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
  const isMeant = WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === process.pid;
  const watchdogMs = isMeant ? Number(WATCHDOG_USEC ?? 0) / 1000 : 0;
  let timer: NodeJS.Timeout | undefined;
  let isStopping = false;

  function send(...lines: string[]): void {
    if (!socket || isStopping) return;
    try {
      sendDatagram(socket, lines.join('\n'));
    } catch (error) {
      logger.warn({ err: error }, 'the service manager cannot be told');
    }
  }

  return {
    ready(status) {
      send('READY=1', `STATUS=${status}`);
      if (socket && watchdogMs > 0) timer ??= setInterval(() => send('WATCHDOG=1'), watchdogMs / 2);
    },
    reloading: () =>
      send('RELOADING=1', `MONOTONIC_USEC=${monotonicNs() / 1000n}`, 'STATUS=reloading'),
    stopping() {
      send('STOPPING=1', 'STATUS=stopping; hooks and maps stay');
      isStopping = true;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
