import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Why tests that ask tshark cannot run here, or false. */
export const withoutTshark = spawnSync('tshark', ['--version']).error
  ? 'tshark is not there: make setup installs it where the distribution has it'
  : false;

const ETHERNET = 1;
const SNAPLEN = 262_144;

/**
 * What tshark makes of frames: for each of them, by field, the values in the order of the layers
 * that have it. Checksums are verified.
 */
export function readWithTshark<Field extends string>(
  frames: readonly Uint8Array[],
  fields: readonly Field[],
): Record<Field, string[]>[] {
  const checked = ['ip', 'tcp', 'udp'].flatMap((name) => ['-o', `${name}.check_checksum:TRUE`]);
  const wanted = fields.flatMap((field) => ['-e', field]);
  using directory = scratchDirectory();
  const file = join(directory.path, 'frames.pcap');
  writeFileSync(file, captureFile(frames));
  const args = ['-n', '-r', file, ...checked, '-T', 'fields', '-E', 'separator=;', ...wanted];
  const { status, stdout, stderr } = spawnSync('tshark', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`tshark: exit ${status}: ${stderr}`);
  const lines = stdout.split('\n').slice(0, frames.length);
  return lines.map((line) => {
    const values = line.split(';').map((text) => (text === '' ? [] : text.split(',')));
    const pairs = fields.map((field, i) => [field, values[i] ?? []] as const);
    return Object.fromEntries(pairs) as Record<Field, string[]>;
  });
}

function scratchDirectory() {
  const path = mkdtempSync(join(tmpdir(), 'sekisho-tshark-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

/** A file of the classic pcap format, without times. */
function captureFile(frames: readonly Uint8Array[]): Uint8Array {
  const head = [0xa1b2c3d4, 0x0002_0004, 0, 0, SNAPLEN, ETHERNET];
  const packets = frames.flatMap((frame) => [
    words([0, 0, frame.length, frame.length]),
    Buffer.from(frame),
  ]);
  return Buffer.concat([words(head), ...packets]);
}

/** Big-endian, as the magic number then says. */
function words(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
  return bytes;
}
