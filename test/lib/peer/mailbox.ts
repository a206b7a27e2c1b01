/** Messages that arrived and those who wait for one. */
export interface Mailbox {
  put(message: string): void;
  /** The next message, or a rejection: after `timeout` ms, or at once when the box was closed. */
  take(timeout: number): Promise<string>;
  /** Nothing will arrive any more, because of `reason`. */
  close(reason: string): void;
  readonly closed: string | undefined;
}

interface Waiter {
  resolve(message: string): void;
  reject(reason: Error): void;
  timer: NodeJS.Timeout;
}

export function mailbox(): Mailbox {
  const messages: string[] = [];
  const waiters: Waiter[] = [];
  let closed: string | undefined;

  const next = () => {
    const waiter = waiters.shift();
    clearTimeout(waiter?.timer);
    return waiter;
  };
  return {
    put(message) {
      const waiter = next();
      if (waiter) waiter.resolve(message);
      else messages.push(message);
    },
    take(timeout) {
      const message = messages.shift();
      if (message !== undefined) return Promise.resolve(message);
      if (closed !== undefined) return Promise.reject(new Error(closed));
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiters.splice(waiters.indexOf(waiter), 1);
          reject(new Error('timeout'));
        }, timeout);
        const waiter = { resolve, reject, timer };
        waiters.push(waiter);
      });
    },
    close(reason) {
      closed ??= reason;
      for (let waiter = next(); waiter; waiter = next()) waiter.reject(new Error(closed));
    },
    get closed() {
      return closed;
    },
  };
}
