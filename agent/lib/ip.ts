import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { SekishoError } from './errors.ts';

export type Family = 'ipv4' | 'ipv6';

export const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

const DOT = '.'.charCodeAt(0);
const ZERO = '0'.charCodeAt(0);

/** Bytes are in network order: 4 for IPv4, 16 for IPv6. */
export interface Address {
  family: Family;
  bytes: Uint8Array;
}

/** `bytes` beyond `length` bits are zero. */
export interface Prefix extends Address {
  length: number;
}

/**
 * Parses a literal address. IPv4 must be four decimal numbers; IPv6 must carry no zone.
 * Throws E_BAD_ADDRESS.
 */
export function parseAddress(text: string): Address {
  const version = text.includes('%') ? 0 : isIP(text);
  if (version === 4) return { family: 'ipv4', bytes: ipv4Bytes(text) };
  if (version === 6) {
    return { family: 'ipv6', bytes: Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray()) };
  }
  throw new SekishoError('E_BAD_ADDRESS', `"${text}" is not an IP address`, {
    hint: 'write it like 10.0.1.10 or fd00:1::10',
  });
}

/** Of a valid text: there may be a hundred thousand. */
function ipv4Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(4);
  let [at, value] = [0, 0];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      bytes[at++] = value;
      value = 0;
    } else value = value * 10 + code - ZERO;
  }
  bytes[at] = value;
  return bytes;
}

/**
 * Parses `address/length`; a bare address is a prefix of its full length. Bits beyond the
 * length are cleared. Throws E_BAD_ADDRESS.
 */
export function parsePrefix(text: string): Prefix {
  const [addressText = '', lengthText, ...rest] = text.split('/');
  const { family, bytes } = parseAddress(addressText);
  const bits = bytes.length * 8;
  const length = lengthText === undefined ? bits : parseLength(lengthText);
  if (rest.length > 0 || !(length <= bits)) {
    throw new SekishoError('E_BAD_ADDRESS', `"${text}" is not a prefix`, {
      hint: `the length is a number from 0 to ${bits}`,
    });
  }
  return { family, bytes: maskBytes(bytes, length), length };
}

/** The prefix of that length around an address; bits beyond it are cleared. */
export function prefixAround({ family, bytes }: Address, length: number): Prefix {
  return { family, bytes: maskBytes(bytes, length), length };
}

/** Whether an address (4 or 16 bytes) lies inside a prefix; never across families. */
export function prefixContains(prefix: Prefix, address: Uint8Array): boolean {
  if (prefix.bytes.length !== address.length) return false;
  const whole = prefix.length >> 3;
  for (let i = 0; i < whole; i++) if (prefix.bytes[i] !== address[i]) return false;
  const rest = prefix.length & 7;
  if (rest === 0) return true;
  return ((prefix.bytes[whole] ?? 0) ^ (address[whole] ?? 0)) >> (8 - rest) === 0;
}

/** Writes 4 bytes as dotted decimal and 16 bytes as RFC 5952 says. Throws RangeError else. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  if (bytes.length === 16) return formatIpv6(bytes);
  throw new RangeError(`an address of ${bytes.length} bytes`);
}

/** `10.0.1.0/24`, `fd00:1::/64`. */
export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.bytes)}/${prefix.length}`;
}

/** `10.0.0.1:80`, `[fd00::1]:80`; the port is a host number. */
export function formatEndpoint(bytes: Uint8Array, port: number): string {
  const address = formatAddress(bytes);
  return bytes.length === 16 ? `[${address}]:${port}` : `${address}:${port}`;
}

/** An IPv4 address as one number. */
export function addressNumber(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0);
}

export function familyOf(bytes: Uint8Array): Family {
  return bytes.length === 4 ? 'ipv4' : 'ipv6';
}

export function addressSize(family: Family): 4 | 16 {
  return family === 'ipv4' ? 4 : 16;
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function parseLength(text: string): number {
  return /^\d{1,3}$/.test(text) ? Number(text) : Number.NaN;
}

function maskBytes(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.map((byte, i) => {
    const kept = Math.min(8, Math.max(0, length - i * 8));
    return byte & (0xff00 >> kept);
  });
}

/** Of each byte: `d`, and `0d`. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16));
const PADDED_HEX = HEX.map((text) => text.padStart(2, '0'));

function formatIpv6(bytes: Uint8Array): string {
  const zeros = longestZeros(bytes);
  if (zeros.start === 0 && zeros.length === 5 && groupAt(bytes, 5) === 0xffff) {
    return `::ffff:${formatAddress(bytes.subarray(12))}`;
  }
  if (zeros.length < 2) return groups(bytes, 0, 8);
  const end = zeros.start + zeros.length;
  return `${groups(bytes, 0, zeros.start)}::${groups(bytes, end, 8)}`;
}

function groups(bytes: Uint8Array, from: number, to: number): string {
  let text = '';
  for (let i = from; i < to; i++)
    text += i === from ? groupText(bytes, i) : `:${groupText(bytes, i)}`;
  return text;
}

function groupText(bytes: Uint8Array, index: number): string {
  const high = bytes[index * 2] ?? 0;
  const low = bytes[index * 2 + 1] ?? 0;
  return high === 0 ? `${HEX[low]}` : `${HEX[high]}${PADDED_HEX[low]}`;
}

function groupAt(bytes: Uint8Array, index: number): number {
  return ((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0);
}

/** The first of the longest runs of zero groups. */
function longestZeros(bytes: Uint8Array): { start: number; length: number } {
  let [start, length] = [0, 0];
  for (let from = 0; from < 8; from++) {
    let end = from;
    while (end < 8 && groupAt(bytes, end) === 0) end++;
    if (end - from > length) [start, length] = [from, end - from];
    from = Math.max(from, end);
  }
  return { start, length };
}
