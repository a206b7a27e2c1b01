import { isIP } from 'node:net';
import { z } from 'zod';
import { parseAddress, parsePrefix } from '../lib/ip.ts';
import { parseDuration } from '../lib/units.ts';

/*
 * The leaves of the configuration. Each says in `error` what was expected, as the end of a
 * sentence ("expected …"), and carries an example for the message and for editors.
 */

const MAX_DURATION = 365 * 86_400;
const INTERFACE_NAME = /^(?!\.{1,2}$)[^/:\s]{1,15}$/;
const OBJECT_NAME = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,252}$/;
const DURATION = /^(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?$/;
const LISTEN = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$/;

/** `2h13m20s` in the file, seconds inside; from 1 s to a year. */
export function duration() {
  const error = 'expected a duration from 1s to 8760h';
  return z
    .string({ error })
    .regex(DURATION, { error, abort: true })
    .transform(parseDuration)
    .refine((seconds) => seconds >= 1 && seconds <= MAX_DURATION, { error })
    .meta({ examples: ['10s', '2h13m20s'] });
}

export function integer(min: number, max: number, example: number) {
  const error = `expected a whole number from ${min} to ${max}`;
  return z
    .int({ error })
    .min(min, { error })
    .max(max, { error })
    .meta({ examples: [example] });
}

export function port(example: number) {
  return integer(1, 65_535, example);
}

/** A share of something: above 0, at most 1. */
export function ratio(example: number) {
  const error = 'expected a number above 0 and at most 1';
  return z
    .number({ error })
    .gt(0, { error })
    .lte(1, { error })
    .meta({ examples: [example] });
}

export function flag() {
  return z.boolean({ error: 'expected true or false' }).meta({ examples: [true] });
}

export function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z
    .enum(values, { error: `expected ${alternatives(values)}` })
    .meta({ examples: [values[0]] });
}

/** An address or prefix stays the text the user wrote; `parseAddress` is known to accept it. */
export function address(example = '10.0.1.10') {
  return text('expected an IP address', accepts(parseAddress), example);
}

/** An address that one machine can own: no wildcard, loopback, multicast or broadcast. */
export function unicast(example = '10.0.1.10') {
  return text('expected a unicast IP address', isUnicast, example);
}

export function prefix(example = '10.0.0.0/8') {
  return text('expected a prefix', accepts(parsePrefix), example);
}

export function interfaceName(example = 'eth0') {
  const expected = 'expected an interface name of 1 to 15 characters';
  return text(expected, (value) => INTERFACE_NAME.test(value), example);
}

export function objectName(example: string) {
  const expected = 'expected a name of letters, digits and . _ - /';
  return text(expected, (value) => OBJECT_NAME.test(value), example);
}

export function absolutePath(example: string) {
  return text('expected an absolute path', (value) => /^\/[^\0]*$/.test(value), example);
}

export function listenAddress(example: string) {
  const expected = 'expected an address and a port';
  return text(expected, (value) => splitListen(value) !== undefined, example);
}

/** `[::1]:9964` → `{host: '::1', port: 9964}`; port 0 lets the kernel choose. */
export function splitListen(value: string): { host: string; port: number } | undefined {
  const match = LISTEN.exec(value);
  if (match === null) return undefined;
  const host = match[1] ?? match[2] ?? '';
  const port = Number(match[3]);
  const known = host === 'localhost' || accepts(parseAddress)(host);
  return known && port <= 65_535 ? { host, port } : undefined;
}

export function text(error: string, test: (value: string) => boolean, example: string) {
  return z
    .string({ error })
    .refine(test, { error })
    .meta({ examples: [example] });
}

/** `"auto"`, or what the other schema accepts. */
export function autoOr<S extends z.ZodType>(other: S, expected: string) {
  return z.union([z.literal('auto'), other], { error: `expected "auto" or ${expected}` });
}

function alternatives(values: readonly string[]): string {
  return `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`;
}

function accepts(parse: (value: string) => unknown): (value: string) => boolean {
  return (value) => {
    try {
      parse(value);
      return true;
    } catch {
      return false;
    }
  };
}

function isUnicast(value: string): boolean {
  if (isIP(value) === 0 || value.includes('%')) return false;
  const { family, bytes } = parseAddress(value);
  const first = bytes[0] ?? 0;
  if (family === 'ipv4') return first !== 0 && first !== 127 && first < 224;
  const isLow = bytes.subarray(0, 15).every((byte) => byte === 0) && (bytes[15] ?? 0) <= 1;
  return !isLow && first !== 0xff;
}
