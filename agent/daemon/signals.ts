/** What the daemon is told by signals, from the moment it listens. */
export interface Signals extends Disposable {
  /** Resolves with the first SIGTERM or SIGINT. */
  stop: Promise<NodeJS.Signals>;
  /** Aborted at that moment. */
  stopping: AbortSignal;
  /** Calls `reload` for every SIGHUP, and at once when one came before anybody listened. */
  onReload(reload: () => void): void;
}

/** Takes over SIGTERM, SIGINT and SIGHUP, each of which would end the process. */
export function catchSignals(): Signals {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  const abort = new AbortController();
  let missed = false;
  let reload = () => {
    missed = true;
  };
  const stop = (signal: NodeJS.Signals) => {
    resolve(signal);
    abort.abort(new Error(`stopped by ${signal}`));
  };
  const hangup = () => reload();
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('SIGHUP', hangup);
  return {
    stop: promise,
    stopping: abort.signal,
    onReload(listener) {
      reload = listener;
      if (missed) listener();
    },
    [Symbol.dispose]() {
      process.off('SIGTERM', stop);
      process.off('SIGINT', stop);
      process.off('SIGHUP', hangup);
    },
  };
}
