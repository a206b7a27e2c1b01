import ipaddr from 'ipaddr.js';
import { crc32c, internetChecksum } from './checksum.ts';

/** What a test writes down; the builder fills in lengths and checksums unless they are given. */
export interface Packet {
  eth?: { src?: string; dst?: string; type?: number };
  ip: IpHeader;
  tcp?: TcpHeader;
  udp?: UdpHeader;
  icmp?: IcmpHeader;
  sctp?: SctpHeader;
  /** Any other transport: the payload follows the IP header directly. */
  raw?: { protocol: number };
  payload?: Uint8Array | string;
  /** Bytes of the finished frame to keep, for packets that end too early. */
  truncate?: number;
}

/** The family is that of `src`. Lengths and offsets are bytes. */
export interface IpHeader {
  src: string;
  dst: string;
  ttl?: number;
  tos?: number;
  /** IPv4 identification, or that of the IPv6 fragment header. */
  id?: number;
  df?: boolean;
  flowLabel?: number;
  fragment?: { offset: number; length?: number; more?: boolean };
  /** IPv4 options, a multiple of 4 bytes. */
  options?: Uint8Array;
  /** IPv6 extension headers between the fixed header and the transport. */
  extensions?: Extension[];
  version?: number;
  headerLength?: number;
  length?: number;
  checksum?: number;
}

/** `body` is what follows the two leading bytes; it is padded to a multiple of 8. */
export interface Extension {
  type: number;
  body?: Uint8Array;
}

export interface TcpHeader {
  sport: number;
  dport: number;
  /** Letters of CWR, ECE, URG, ACK, PSH, RST, SYN, FIN: any of `CEUAPRSF`. */
  flags: string;
  seq?: number;
  ack?: number;
  window?: number;
  urgent?: number;
  options?: Uint8Array;
  headerLength?: number;
  checksum?: number;
}

export interface UdpHeader {
  sport: number;
  dport: number;
  length?: number;
  checksum?: number;
}

/** Either a message known to both families, or type and code as numbers. */
export interface IcmpHeader {
  message?: IcmpMessage;
  type?: number;
  code?: number;
  id?: number;
  sequence?: number;
  mtu?: number;
  /** The packet an error complains about: a description, or bytes from its IP header on. */
  quote?: Packet | Uint8Array;
  /** Bytes of the quote to keep; default: what a Linux host sends. */
  quoteLength?: number;
  checksum?: number;
}

export interface SctpHeader {
  sport: number;
  dport: number;
  tag?: number;
  checksum?: number;
}

export type IcmpMessage = keyof (typeof ICMP_MESSAGES)['ipv4'];

/** Type and code of the messages that both families have. */
export const ICMP_MESSAGES = {
  ipv4: {
    'echo-request': [8, 0],
    'echo-reply': [0, 0],
    'net-unreachable': [3, 0],
    'host-unreachable': [3, 1],
    'port-unreachable': [3, 3],
    'too-big': [3, 4],
    'time-exceeded': [11, 0],
    'parameter-problem': [12, 0],
  },
  ipv6: {
    'echo-request': [128, 0],
    'echo-reply': [129, 0],
    'net-unreachable': [1, 0],
    'host-unreachable': [1, 3],
    'port-unreachable': [1, 4],
    'too-big': [2, 0],
    'time-exceeded': [3, 0],
    'parameter-problem': [4, 0],
  },
} as const;

export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const;

export const POD_MAC = '02:00:00:00:00:10';
export const NODE_MAC = '02:00:00:00:00:01';

const TCP_FLAGS = 'FSRPAUEC';

/** The frame as it is on the wire, from the Ethernet header on. */
export function buildPacket(packet: Packet): Uint8Array {
  const datagram = buildDatagram(packet);
  const type = packet.eth?.type ?? (isIpv6(packet) ? 0x86dd : 0x0800);
  const frame = concat(
    mac(packet.eth?.dst ?? NODE_MAC),
    mac(packet.eth?.src ?? POD_MAC),
    u16(type),
    datagram,
  );
  return packet.truncate === undefined ? frame : frame.slice(0, packet.truncate);
}

/** The packet without its Ethernet header: what an ICMP error quotes. */
function buildDatagram(packet: Packet): Uint8Array {
  const transport = buildTransport(packet);
  return isIpv6(packet) ? buildIpv6(packet, transport) : buildIpv4(packet, transport);
}

/**
 * The frames that carry `packet` in pieces of at most `size` bytes of transport each. `size` is a
 * multiple of 8.
 */
export function buildFragments(packet: Packet, size: number): Uint8Array[] {
  const total = buildTransport(packet).length;
  const frames: Uint8Array[] = [];
  for (let offset = 0; offset < total; offset += size) {
    const length = Math.min(size, total - offset);
    frames.push(buildPacket({ ...packet, ip: { ...packet.ip, fragment: { offset, length } } }));
  }
  return frames;
}

function buildIpv4(packet: Packet, transport: Uint8Array): Uint8Array {
  const { ip } = packet;
  const options = ip.options ?? new Uint8Array();
  const piece = cut(ip, transport);
  const headerLength = ip.headerLength ?? 20 + options.length;
  const header = concat(
    [((ip.version ?? 4) << 4) | ((headerLength >> 2) & 15), ip.tos ?? 0],
    u16(ip.length ?? 20 + options.length + piece.bytes.length),
    u16(ip.id ?? 0),
    u16((ip.df ? 0x4000 : 0) | (piece.more ? 0x2000 : 0) | (piece.offset >> 3)),
    [ip.ttl ?? 64, protocolOf(packet)],
    u16(0),
    address(ip.src),
    address(ip.dst),
    options,
  );
  header.set(u16(ip.checksum ?? internetChecksum(header)), 10);
  return concat(header, piece.bytes);
}

function buildIpv6(packet: Packet, transport: Uint8Array): Uint8Array {
  const { ip } = packet;
  const piece = cut(ip, transport);
  const extensions = ip.extensions ?? [];
  const chain = [...extensions.map((e) => e.type), ...(ip.fragment ? [44] : [])];
  const next = [...chain, protocolOf(packet)];
  const bodies = extensions.map((extension, i) => buildExtension(extension, next[i + 1] ?? 59));
  if (ip.fragment) {
    const offset = piece.offset | (piece.more ? 1 : 0);
    bodies.push(concat([protocolOf(packet), 0], u16(offset), u32(ip.id ?? 0)));
  }
  const rest = concat(...bodies, piece.bytes);
  return concat(
    u32((((ip.version ?? 6) << 28) | ((ip.tos ?? 0) << 20) | (ip.flowLabel ?? 0)) >>> 0),
    u16(ip.length ?? rest.length),
    [next[0] ?? 59, ip.ttl ?? 64],
    address(ip.src),
    address(ip.dst),
    rest,
  );
}

function buildExtension({ body = new Uint8Array() }: Extension, next: number): Uint8Array {
  const length = Math.ceil((2 + body.length) / 8) * 8;
  const bytes = new Uint8Array(length);
  bytes.set([next, length / 8 - 1]);
  bytes.set(body, 2);
  const padding = length - 2 - body.length;
  if (padding > 1) bytes.set([1, padding - 2], 2 + body.length);
  return bytes;
}

function cut(ip: IpHeader, transport: Uint8Array) {
  const { offset = 0, length = transport.length, more } = ip.fragment ?? {};
  const bytes = transport.slice(offset, offset + length);
  return { offset, bytes, more: more ?? offset + bytes.length < transport.length };
}

function buildTransport(packet: Packet): Uint8Array {
  const payload = toBytes(packet.payload ?? '');
  if (packet.tcp) return buildTcp(packet, packet.tcp, payload);
  if (packet.udp) return buildUdp(packet, packet.udp, payload);
  if (packet.icmp) return buildIcmp(packet, packet.icmp, payload);
  if (packet.sctp) return buildSctp(packet.sctp, payload);
  return payload;
}

function buildTcp(packet: Packet, tcp: TcpHeader, payload: Uint8Array): Uint8Array {
  const options = tcp.options ?? new Uint8Array();
  const segment = concat(
    u16(tcp.sport),
    u16(tcp.dport),
    u32(tcp.seq ?? 1),
    u32(tcp.ack ?? 0),
    [(((tcp.headerLength ?? 20 + options.length) >> 2) << 4) & 0xf0, flagBits(tcp.flags)],
    u16(tcp.window ?? 65535),
    u16(0),
    u16(tcp.urgent ?? 0),
    options,
    payload,
  );
  segment.set(u16(tcp.checksum ?? transportChecksum(packet, segment)), 16);
  return segment;
}

function buildUdp(packet: Packet, udp: UdpHeader, payload: Uint8Array): Uint8Array {
  const length = udp.length ?? 8 + payload.length;
  const datagram = concat(u16(udp.sport), u16(udp.dport), u16(length), u16(0), payload);
  datagram.set(u16(udp.checksum ?? (transportChecksum(packet, datagram) || 0xffff)), 6);
  return datagram;
}

function buildIcmp(packet: Packet, icmp: IcmpHeader, payload: Uint8Array): Uint8Array {
  const family = isIpv6(packet) ? 'ipv6' : 'ipv4';
  const [type, code] = icmp.message ? ICMP_MESSAGES[family][icmp.message] : [icmp.type, icmp.code];
  const rest =
    icmp.quote === undefined
      ? concat(u16(icmp.id ?? 0), u16(icmp.sequence ?? 0))
      : u32(icmp.mtu ?? 0);
  const quote = icmp.quote === undefined ? new Uint8Array() : buildQuote(icmp, icmp.quote, family);
  const message = concat([type ?? 0, code ?? 0], u16(0), rest, quote, payload);
  const sum = family === 'ipv6' ? transportChecksum(packet, message) : internetChecksum(message);
  message.set(u16(icmp.checksum ?? sum), 2);
  return message;
}

function buildQuote(icmp: IcmpHeader, quote: Packet | Uint8Array, family: 'ipv4' | 'ipv6') {
  const bytes = quote instanceof Uint8Array ? quote : buildDatagram(quote);
  return bytes.slice(0, icmp.quoteLength ?? (family === 'ipv6' ? 1232 : 548));
}

function buildSctp(sctp: SctpHeader, payload: Uint8Array): Uint8Array {
  const bytes = concat(u16(sctp.sport), u16(sctp.dport), u32(sctp.tag ?? 0), u32(0), payload);
  new DataView(bytes.buffer).setUint32(8, sctp.checksum ?? crc32c(bytes), true);
  return bytes;
}

function transportChecksum(packet: Packet, transport: Uint8Array): number {
  const protocol = protocolOf(packet);
  const addresses = [address(packet.ip.src), address(packet.ip.dst)];
  const pseudo = isIpv6(packet)
    ? concat(...addresses, u32(transport.length), [0, 0, 0, protocol])
    : concat(...addresses, [0, protocol], u16(transport.length));
  return internetChecksum(concat(pseudo, transport));
}

function protocolOf(packet: Packet): number {
  if (packet.tcp) return PROTOCOL.tcp;
  if (packet.udp) return PROTOCOL.udp;
  if (packet.icmp) return isIpv6(packet) ? PROTOCOL.icmpv6 : PROTOCOL.icmp;
  if (packet.sctp) return PROTOCOL.sctp;
  return packet.raw?.protocol ?? 59;
}

function flagBits(letters: string): number {
  let bits = 0;
  for (const letter of letters) {
    const bit = TCP_FLAGS.indexOf(letter);
    if (bit < 0) throw new RangeError(`no TCP flag is called ${letter}`);
    bits |= 1 << bit;
  }
  return bits;
}

const isIpv6 = (packet: Packet) => packet.ip.src.includes(':');
const address = (text: string) => ipaddr.parse(text).toByteArray();
const mac = (text: string) => text.split(':').map((byte) => Number.parseInt(byte, 16));
const u16 = (n: number) => [(n >> 8) & 255, n & 255];
const u32 = (n: number) => [(n >>> 24) & 255, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];

function toBytes(payload: Uint8Array | string): Uint8Array {
  return typeof payload === 'string' ? new TextEncoder().encode(payload) : payload;
}

function concat(...parts: (Uint8Array | number[])[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
