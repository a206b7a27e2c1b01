export type Cell = string | number;

/** Lines of a table with a heading; columns whose cells are all numbers are set to the right. */
export function formatTable(
  heading: readonly string[],
  rows: readonly (readonly Cell[])[],
): string[] {
  const lines = [heading, ...rows].map((row) => row.map(String));
  const widths = heading.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const isNumeric = heading.map((_, i) => rows.every((row) => typeof row[i] === 'number'));
  return lines.map((line) =>
    line
      .map((cell, i) =>
        isNumeric[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
}
