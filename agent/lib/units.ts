import { SekishoError } from './errors.ts';

const SECONDS = { d: 86_400, h: 3_600, m: 60, s: 1 } as const;
const DURATION = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/;
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/**
 * `2h13m20s` → 8000: whole seconds, units d, h, m, s in this order. Throws E_BAD_DURATION.
 */
export function parseDuration(text: string): number {
  const match = text === '' ? null : DURATION.exec(text);
  const [, days = 0, hours = 0, minutes = 0, seconds = 0] = match ?? [];
  const total =
    Number(days) * SECONDS.d +
    Number(hours) * SECONDS.h +
    Number(minutes) * SECONDS.m +
    Number(seconds);
  if (match === null || !Number.isSafeInteger(total)) {
    throw new SekishoError('E_BAD_DURATION', `"${text}" is not a duration`, {
      hint: 'write it like 10s or 2h13m20s',
    });
  }
  return total;
}

/** 8000 → `2h13m20s`, 0.35 → `350ms`; from a second up, rounded to seconds. */
export function formatDuration(seconds: number): string {
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)}ms`;
  if (seconds < 0) return `-${formatDuration(-seconds)}`;
  let rest = Math.round(seconds);
  let text = '';
  for (const unit of ['h', 'm', 's'] as const) {
    const count = Math.floor(rest / SECONDS[unit]);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * SECONDS[unit];
  }
  return text === '' ? '0s' : text;
}

/** 1536 → `1.5 KiB`: binary units, at most one digit after the point. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toFixed(1))} ${BYTE_UNITS[unit]}`;
}
