/**
 * Remembers what `read` answers until the current turn of the event loop is over: the metrics of
 * one scrape are collected in one go, and what several of them show is read once.
 */
export function oncePerScrape<Argument, Value>(
  read: (argument: Argument) => Value,
): (argument: Argument) => Value {
  const known = new Map<Argument, Value>();
  return (argument) => {
    if (known.size === 0) queueMicrotask(() => known.clear());
    const value = known.get(argument) ?? read(argument);
    known.set(argument, value);
    return value;
  };
}
