/** What turns one set of rows into another. */
export interface RowChanges<Row> {
  set: Row[];
  remove: Row[];
}

/**
 * Compares rows by key, then by content; both functions give text. Equal sets give no changes.
 */
export function diffRows<Row>(
  desired: Iterable<Row>,
  actual: Iterable<Row>,
  key: (row: Row) => string,
  content: (row: Row) => string,
): RowChanges<Row> {
  const before = new Map([...actual].map((row) => [key(row), row]));
  const after = new Map([...desired].map((row) => [key(row), row]));
  const set = [...after].filter(([name, row]) => {
    const old = before.get(name);
    return old === undefined || content(old) !== content(row);
  });
  const remove = [...before].filter(([name]) => !after.has(name));
  return { set: set.map(([, row]) => row), remove: remove.map(([, row]) => row) };
}
