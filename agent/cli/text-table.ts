export type Cell = string | number;

/** Lines of a table with a heading; columns whose cells are all numbers are set to the right. */
export function formatTable(
  heading: readonly string[],
  rows: readonly (readonly Cell[])[],
): string[] {
  return [...tableLines(heading, () => rows)];
}

/** Like `formatTable`, line by line: `rows` is asked twice for its rows, first for their widths. */
export function* tableLines(
  heading: readonly string[],
  rows: () => Iterable<readonly Cell[]>,
): Generator<string, void, undefined> {
  const widths = heading.map((cell) => cell.length);
  const isNumeric = heading.map(() => true);
  for (const row of rows()) {
    for (const [i, cell] of row.entries()) {
      widths[i] = Math.max(widths[i] ?? 0, String(cell).length);
      if (typeof cell !== 'number') isNumeric[i] = false;
    }
  }
  const line = (row: readonly Cell[]) =>
    row
      .map((cell, i) => {
        const width = widths[i] ?? 0;
        return isNumeric[i] ? String(cell).padStart(width) : String(cell).padEnd(width);
      })
      .join('  ')
      .trimEnd();
  yield line(heading);
  for (const row of rows()) yield line(row);
}
