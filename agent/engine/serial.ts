/** Runs actions one after the other, in the order they were asked for. */
export type Serial = <T>(action: () => T | Promise<T>) => Promise<T>;

/** A failed action rejects its own promise and lets the next one run. */
export function createSerial(): Serial {
  let tail: Promise<unknown> = Promise.resolve();
  return (action) => {
    const result = tail.then(action);
    tail = result.catch(() => {});
    return result;
  };
}
