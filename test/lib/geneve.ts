import ipaddr from 'ipaddr.js';
import { dissect } from './dissect.ts';
import { buildPacket, type Packet } from './packet.ts';

/** RFC 8926, with the option that carries a service's frontend. */
export interface Tunnelled {
  /** Nodes, IPv4. */
  from: string;
  to: string;
  frontend: { address: string; port: number };
  inner: Packet | Uint8Array;
  /** Of the tunnel's own header. */
  tos?: number;
  sport?: number;
  dport?: number;
  eth?: Packet['eth'];
  /** What is to be wrong with it. */
  version?: number;
  flags?: number;
  protocol?: number;
  optionClass?: number;
  optionType?: number;
  optionBytes?: Uint8Array;
  fragment?: { offset: number; more: boolean };
}

/** The frame that a node sends which has a client's packet for another. */
export function buildTunnelled(tunnelled: Tunnelled): Uint8Array {
  const { from, to, inner, eth, tos, fragment } = tunnelled;
  const frame = inner instanceof Uint8Array ? inner : buildPacket(inner);
  const option = optionOf(tunnelled);
  const geneve = [((tunnelled.version ?? 0) << 6) | (option.length / 4), tunnelled.flags ?? 0x40];
  return buildPacket({
    ...(eth && { eth }),
    ip: { src: from, dst: to, df: true, ...(tos && { tos }), ...(fragment && { fragment }) },
    udp: { sport: tunnelled.sport ?? 50_000, dport: tunnelled.dport ?? 6081, checksum: 0 },
    payload: Uint8Array.from([
      ...geneve,
      ...u16(tunnelled.protocol ?? 0x6558),
      ...[0, 0, 2, 0],
      ...option,
      ...frame,
    ]),
  });
}

/** A tunnel's frame, taken apart. Throws where it is none. */
export function readTunnelled(frame: Uint8Array) {
  const outer = dissect(frame);
  if (outer.udp?.dport !== 6081) throw new Error(`not to the Geneve port: ${outer.udp?.dport}`);
  const bytes = Buffer.from(outer.payload, 'hex');
  const options = ((bytes[0] ?? 0) & 63) * 4;
  const option = bytes.subarray(8, 8 + options);
  const address = option.subarray(4, options - 4);
  return {
    outer,
    version: (bytes[0] ?? 0) >> 6,
    flags: bytes[1],
    protocol: bytes.readUInt16BE(2),
    vni: bytes.readUInt32BE(4) >> 8,
    option: {
      class: option.readUInt16BE(0),
      type: option[2],
      length: option[3],
      address: ipaddr.fromByteArray([...address]).toString(),
      port: option.readUInt16BE(options - 4),
    },
    inner: Uint8Array.from(bytes.subarray(8 + options)),
  };
}

function optionOf({ optionBytes, optionClass, optionType, frontend }: Tunnelled): Uint8Array {
  if (optionBytes) return optionBytes;
  const address = ipaddr.parse(frontend.address).toByteArray();
  const words = address.length / 4 + 1;
  const head = [...u16(optionClass ?? 0x014b), optionType ?? 0x81, words];
  return Uint8Array.from([...head, ...address, ...u16(frontend.port), 0, 0]);
}

const u16 = (n: number) => [n >> 8, n & 255];
