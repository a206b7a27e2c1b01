import assert from 'node:assert/strict';
import { type Dissection, dissect } from './dissect.ts';
import { buildPacket, type Packet } from './packet.ts';

type Fields = Map<string, unknown>;

/**
 * Fails with one line per field that differs. The checksums of `actual` must be right by
 * recomputation, whatever the expectation says. `ignore` names fields such as `ip.id`, or a whole
 * header such as `eth`.
 */
export function assertPacket(
  actual: Uint8Array,
  expected: Packet | Uint8Array,
  { ignore = [] }: { ignore?: readonly string[] } = {},
): void {
  const due = expected instanceof Uint8Array ? expected : buildPacket(expected);
  const differences = diffPackets(actual, due).filter(
    ({ field }) => !ignore.some((name) => field === name || field.startsWith(`${name}.`)),
  );
  const { checksums } = dissect(actual);
  const wrong = checksums === 'ok' ? [] : checksums.map((line) => `  checksum ${line}`);
  const lines = differences.map(formatDifference);
  if (lines.length + wrong.length === 0) return;
  assert.fail(['the packet is not the expected one:', ...lines, ...wrong].join('\n'));
}

export interface Difference {
  field: string;
  actual: unknown;
  expected: unknown;
}

/** Every field in which two frames differ; equal frames give an empty list. */
export function diffPackets(actual: Uint8Array, expected: Uint8Array): Difference[] {
  const left = flatten(dissect(actual));
  const right = flatten(dissect(expected));
  const names = [...new Set([...right.keys(), ...left.keys()])];
  return names
    .map((field) => ({ field, actual: left.get(field), expected: right.get(field) }))
    .filter((difference) => difference.actual !== difference.expected);
}

function flatten(dissection: Dissection, prefix = ''): Fields {
  const fields: Fields = new Map();
  for (const [name, value] of Object.entries(dissection)) {
    if (name === 'checksums') continue;
    if (name === 'quote') for (const [k, v] of flatten(value, `${prefix}quote.`)) fields.set(k, v);
    else if (Array.isArray(value)) fields.set(prefix + name, value.join('; '));
    else if (typeof value === 'object')
      for (const [k, v] of Object.entries(value)) fields.set(`${prefix}${name}.${k}`, v);
    else fields.set(prefix + name, value);
  }
  return fields;
}

function formatDifference({ field, actual, expected }: Difference): string {
  return `  ${field.padEnd(14)} ${show(actual)}, expected ${show(expected)}`;
}

function show(value: unknown): string {
  if (value === undefined) return 'absent';
  const text = value === '' ? '(empty)' : String(value);
  return text.length > 80 ? `${text.slice(0, 77)}… (${text.length})` : text;
}
