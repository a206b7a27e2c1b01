import ipaddr from 'ipaddr.js';

/**
 * A packet read back from its bytes. Shares nothing with the builder: every checksum is summed
 * again here, by other code.
 */
export interface Dissection {
  eth?: { dst: string; src: string; type: string };
  ip?: Record<string, string | number | boolean>;
  tcp?: Record<string, string | number>;
  udp?: Record<string, string | number>;
  icmp?: Record<string, string | number>;
  sctp?: Record<string, string | number>;
  raw?: { protocol: number };
  /** What an ICMP error complains about. */
  quote?: Dissection;
  payload: string;
  checksums: 'ok' | string[];
  /** Fields that contradict each other or the packet's length. */
  problems: string[];
}

interface Scope {
  result: Dissection;
  wrong: string[];
  /** A quote may end early; what is missing there is no problem. */
  quoted: boolean;
}

interface Transport {
  protocol: number;
  bytes: Uint8Array;
  pseudo: Uint8Array;
  /** Part of a fragmented or cut packet: its checksum covers bytes that are not here. */
  partial: boolean;
  later: boolean;
  version: 4 | 6;
}

const ETHERNET = 14;
const TCP_FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'];
/** Without AH: what it protects is not to be looked into. */
const EXTENSION_HEADERS = new Set([0, 43, 60]);
const FRAGMENT_HEADER = 44;
/** What must be there of a transport's header to read it; ICMP has a number per family. */
const MINIMUM = {
  4: new Map([
    [1, 8],
    [6, 20],
    [17, 8],
    [132, 12],
  ]),
  6: new Map([
    [58, 8],
    [6, 20],
    [17, 8],
    [132, 12],
  ]),
};
const ERRORS = { 4: new Set([3, 4, 5, 11, 12]), 6: new Set([1, 2, 3, 4]) } as const;

/** Reads a frame from its Ethernet header on. Never throws: what is odd is in `problems`. */
export function dissect(frame: Uint8Array): Dissection {
  const scope = newScope(false);
  if (frame.length < ETHERNET) {
    scope.result.problems.push('shorter than an Ethernet header');
    return finish(scope);
  }
  const type = read(frame, 12, 2);
  scope.result.eth = {
    dst: macText(frame.subarray(0, 6)),
    src: macText(frame.subarray(6, 12)),
    type: `0x${type.toString(16).padStart(4, '0')}`,
  };
  const rest = frame.subarray(ETHERNET);
  if (type === 0x0800) dissectIpv4(scope, rest);
  else if (type === 0x86dd) dissectIpv6(scope, rest);
  else scope.result.payload = hex(rest);
  return finish(scope);
}

/** The same for bytes that begin with the IP header. */
function dissectDatagram(bytes: Uint8Array, quoted = false): Dissection {
  const scope = newScope(quoted);
  const version = (bytes[0] ?? 0) >> 4;
  if (version === 4) dissectIpv4(scope, bytes);
  else if (version === 6) dissectIpv6(scope, bytes);
  else scope.result.problems.push(`IP version ${version}`);
  return finish(scope);
}

function newScope(quoted: boolean): Scope {
  return { result: { payload: '', checksums: 'ok', problems: [] }, wrong: [], quoted };
}

function finish({ result, wrong }: Scope): Dissection {
  const inner = result.quote?.checksums;
  if (Array.isArray(inner)) wrong.push(...inner.map((line) => `quoted ${line}`));
  result.checksums = wrong.length === 0 ? 'ok' : wrong;
  return result;
}

function dissectIpv4(scope: Scope, bytes: Uint8Array): void {
  const { problems } = scope.result;
  const headerLength = ((bytes[0] ?? 0) & 15) * 4;
  if (bytes.length < 20 || headerLength < 20 || bytes.length < headerLength) {
    problems.push('IPv4 header cut short');
    return;
  }
  const length = read(bytes, 2, 2);
  const flags = read(bytes, 6, 2);
  const offset = (flags & 0x1fff) * 8;
  const protocol = read(bytes, 9, 1);
  scope.result.ip = {
    version: 4,
    src: addressText(bytes.subarray(12, 16)),
    dst: addressText(bytes.subarray(16, 20)),
    ttl: read(bytes, 8, 1),
    tos: read(bytes, 1, 1),
    id: read(bytes, 4, 2),
    df: (flags & 0x4000) !== 0,
    more: (flags & 0x2000) !== 0,
    offset,
    length,
    protocol,
    options: hex(bytes.subarray(20, headerLength)),
  };
  expectSum(scope, 'ip', bytes.subarray(0, headerLength));
  if (length < headerLength) problems.push('IPv4 length below its header');
  if (length > bytes.length && !scope.quoted) problems.push('IPv4 length beyond the packet');
  const body = bytes.subarray(headerLength, Math.max(headerLength, length));
  const pseudo = new Uint8Array(12);
  pseudo.set(bytes.subarray(12, 20));
  pseudo[9] = protocol;
  new DataView(pseudo.buffer).setUint16(10, body.length);
  const partial = (flags & 0x3fff) !== 0 || length > bytes.length;
  dissectTransport(scope, {
    protocol,
    bytes: body,
    pseudo,
    partial,
    later: offset > 0,
    version: 4,
  });
}

function dissectIpv6(scope: Scope, bytes: Uint8Array): void {
  const { problems } = scope.result;
  if (bytes.length < 40) {
    problems.push('IPv6 header cut short');
    return;
  }
  const length = read(bytes, 4, 2);
  if (length > bytes.length - 40 && !scope.quoted) problems.push('IPv6 length beyond the packet');
  const chain = walkExtensions(bytes, 40 + length);
  scope.result.ip = {
    version: 6,
    src: addressText(bytes.subarray(8, 24)),
    dst: addressText(bytes.subarray(24, 40)),
    ttl: read(bytes, 7, 1),
    tos: (read(bytes, 0, 2) >> 4) & 255,
    flowLabel: read(bytes, 0, 4) & 0xfffff,
    length,
    extensions: chain.types.join(','),
    ...chain.fragment,
    protocol: chain.protocol,
  };
  const body = bytes.subarray(chain.at, 40 + length);
  const pseudo = new Uint8Array(40);
  pseudo.set(bytes.subarray(8, 40));
  new DataView(pseudo.buffer).setUint32(32, body.length);
  pseudo[39] = chain.protocol;
  const { more = false, offset = 0 } = chain.fragment ?? {};
  const partial = more || offset > 0 || 40 + length > bytes.length;
  const { protocol } = chain;
  dissectTransport(scope, {
    protocol,
    bytes: body,
    pseudo,
    partial,
    later: offset > 0,
    version: 6,
  });
}

function walkExtensions(bytes: Uint8Array, end: number) {
  const types: number[] = [];
  let protocol = read(bytes, 6, 1);
  let at = 40;
  let fragment: { id: number; offset: number; more: boolean } | undefined;
  while (at + 8 <= Math.min(end, bytes.length)) {
    if (protocol === FRAGMENT_HEADER) {
      const word = read(bytes, at + 2, 2);
      fragment = { id: read(bytes, at + 4, 4), offset: word & 0xfff8, more: (word & 1) === 1 };
    } else if (!EXTENSION_HEADERS.has(protocol)) break;
    const units = read(bytes, at + 1, 1);
    const size = protocol === FRAGMENT_HEADER ? 8 : units * 8 + 8;
    types.push(protocol);
    protocol = read(bytes, at, 1);
    at += size;
    if (fragment && fragment.offset > 0) break;
  }
  return { types, protocol, at, fragment };
}

function dissectTransport(scope: Scope, transport: Transport): void {
  const { result } = scope;
  const { protocol, bytes, version, later, partial } = transport;
  const minimum = MINIMUM[version].get(protocol);
  if (later || minimum === undefined) {
    result.raw = { protocol };
    result.payload = hex(bytes);
  } else if (bytes.length < minimum && !(scope.quoted && bytes.length >= 8)) {
    if (!partial) result.problems.push('transport header cut short');
    result.payload = hex(bytes);
  } else if (protocol === 6) dissectTcp(scope, transport);
  else if (protocol === 17) dissectUdp(scope, transport);
  else if (protocol === 132) dissectSctp(scope, transport);
  else dissectIcmp(scope, transport);
}

function dissectTcp(scope: Scope, { bytes, pseudo, partial }: Transport): void {
  const { result } = scope;
  result.tcp = { sport: read(bytes, 0, 2), dport: read(bytes, 2, 2), seq: read(bytes, 4, 4) };
  if (bytes.length < 20) return;
  const headerLength = (read(bytes, 12, 1) >> 4) * 4;
  Object.assign(result.tcp, {
    ack: read(bytes, 8, 4),
    flags: TCP_FLAGS.filter((_, bit) => read(bytes, 13, 1) & (1 << bit)).join(' '),
    window: read(bytes, 14, 2),
    urgent: read(bytes, 18, 2),
    options: hex(bytes.subarray(20, headerLength)),
  });
  result.payload = hex(bytes.subarray(headerLength));
  if (partial) return;
  if (headerLength < 20 || headerLength > bytes.length) result.problems.push('TCP header length');
  expectSum(scope, 'tcp', pseudo, bytes);
}

function dissectUdp(scope: Scope, { bytes, pseudo, partial, version }: Transport): void {
  const { result } = scope;
  const length = read(bytes, 4, 2);
  result.udp = { sport: read(bytes, 0, 2), dport: read(bytes, 2, 2), length };
  result.payload = hex(bytes.subarray(8));
  if (partial) return;
  // RFC 2675: 0 stands for what IP says.
  const jumbo = version === 6 && length === 0;
  const covered = jumbo ? bytes.length : length;
  if (covered < 8 || covered > bytes.length) {
    result.problems.push('UDP length');
    return;
  }
  const own = Uint8Array.from(pseudo);
  new DataView(own.buffer).setUint16(version === 4 ? 10 : 34, covered);
  if (read(bytes, 6, 2) !== 0) expectSum(scope, 'udp', own, bytes.subarray(0, covered));
  else if (version === 6) scope.wrong.push('udp: zero is no checksum in IPv6');
  else result.udp.checksum = 'none';
}

function dissectIcmp(scope: Scope, { bytes, pseudo, partial, version }: Transport): void {
  const { result } = scope;
  const type = read(bytes, 0, 1);
  result.icmp = { type, code: read(bytes, 1, 1) };
  if (ERRORS[version].has(type)) {
    result.icmp.mtu = version === 4 ? read(bytes, 6, 2) : read(bytes, 4, 4);
    result.quote = dissectDatagram(bytes.subarray(8), true);
  } else {
    Object.assign(result.icmp, { id: read(bytes, 4, 2), sequence: read(bytes, 6, 2) });
    result.payload = hex(bytes.subarray(8));
  }
  if (partial) return;
  if (version === 6) expectSum(scope, 'icmp', pseudo, bytes);
  else expectSum(scope, 'icmp', bytes);
}

function dissectSctp(scope: Scope, { bytes, partial }: Transport): void {
  const { result } = scope;
  result.sctp = { sport: read(bytes, 0, 2), dport: read(bytes, 2, 2), tag: read(bytes, 4, 4) };
  if (bytes.length < 12) return;
  result.payload = hex(bytes.subarray(12));
  if (partial) return;
  const zeroed = Uint8Array.from(bytes);
  zeroed.fill(0, 8, 12);
  const found = new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true);
  const due = castagnoli(zeroed);
  if (found !== due) scope.wrong.push(`sctp: 0x${found.toString(16)}, due 0x${due.toString(16)}`);
}

/** A correct region sums to all ones, its checksum included. */
function expectSum(scope: Scope, name: string, ...parts: Uint8Array[]): void {
  let sum = 0n;
  for (const part of parts) {
    for (let i = 0; i < part.length; i++) {
      sum += BigInt(part[i] ?? 0) << (i % 2 === 0 ? 8n : 0n);
    }
  }
  const folded = Number(sum % 0xffffn);
  if (folded !== 0 || sum === 0n) {
    scope.wrong.push(`${name}: sums to 0x${folded.toString(16)} instead of 0xffff`);
  }
}

const CASTAGNOLI = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  return c;
});

function castagnoli(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) crc = (CASTAGNOLI[(crc ^ byte) & 255] ?? 0) ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}

function read(bytes: Uint8Array, at: number, size: 1 | 2 | 4): number {
  let value = 0;
  for (let i = 0; i < size; i++) value = value * 256 + (bytes[at + i] ?? 0);
  return value;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const macText = (bytes: Uint8Array) => hex(bytes).replace(/(..)(?=.)/g, '$1:');
const addressText = (bytes: Uint8Array) => {
  const parsed = ipaddr.fromByteArray([...bytes]);
  return parsed instanceof ipaddr.IPv6 ? parsed.toRFC5952String() : parsed.toString();
};
