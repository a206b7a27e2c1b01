import type { Summary } from './statistics.ts';

/** `10.9 (10.1–11.2)`: median and quartiles, with as many digits as the value deserves. */
export function withQuartiles(summary: Summary, scale = 1): string {
  const show = (value: number) => digits(value / scale, summary.median / scale);
  return `${show(summary.median)} (${show(summary.q1)}–${show(summary.q3)})`;
}

/** `10.9 (9.7–13.7)`: median and range. */
export function withRange(summary: Summary): string {
  const show = (value: number) => digits(value, summary.median);
  return `${show(summary.median)} (${show(summary.min)}–${show(summary.max)})`;
}

/** `1.10 (1.05–1.12; 0.98–1.20)`: median, quartiles, range. */
export function ratioText({ median, q1, q3, min, max }: Summary): string {
  const show = (value: number) => value.toFixed(2);
  return `${show(median)} (${show(q1)}–${show(q3)}; ${show(min)}–${show(max)})`;
}

/** What the states of a packet's path are called. */
export const STATES = {
  hot: 'one flow',
  many: '100k flows',
  due: '100k flows, once a second',
  new: 'new flow',
  refused: 'refused',
} as const;

function digits(value: number, size: number): string {
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString('en', {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
}
