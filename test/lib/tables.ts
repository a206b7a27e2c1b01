import { join } from 'node:path';
import ipaddr from 'ipaddr.js';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';
import type { Family, Node } from './topology.ts';

/** The published layout of the connection tables, written down here a second time on purpose. */
export interface FlowKey {
  src: string;
  dst: string;
  sport: number;
  dport: number;
  protocol: number;
  kind: number;
}

export interface Translation {
  address: string;
  port: number;
}

export type TableName = 'ct_tcp' | 'ct_any' | 'snat';

export const KIND = { OUT: 0, IN: 1, RELATED: 2, SVC: 4 } as const;

/** A CT entry begins with the second that it expires at. */
const EXPIRES_OFFSET = 0;

/** A connection table through its pin. */
export interface Table extends Disposable {
  has(key: FlowKey): boolean;
  /** What a NAT entry translates to. */
  translation(key: FlowKey): Translation | undefined;
  /** False when there was nothing to delete. */
  delete(key: FlowKey): boolean;
  /** Adds a connection that does not expire and that nobody knows more of. Not for `snat`. */
  insertLive(key: FlowKey): void;
  value(key: FlowKey): Uint8Array | undefined;
  entries(): Promise<{ key: FlowKey; value: Uint8Array; translation: Translation }[]>;
}

/** Opens a pinned table of a node; fails when it is not there. */
export function openTable(node: Node, family: Family, name: TableName): Table {
  const path = join(node.bpffs, family, name);
  const map = openPinnedMap(path);
  if (!map) throw new Error(`nothing is pinned at ${path}`);
  return {
    has: (key) => map.lookup(encodeKey(key)) !== undefined,
    value: (key) => map.lookup(encodeKey(key)),
    translation(key) {
      const value = map.lookup(encodeKey(key));
      return value && decodeTranslation(value, family);
    },
    delete: (key) => map.delete(encodeKey(key)),
    insertLive(key) {
      const value = new Uint8Array(map.valueSize);
      new DataView(value.buffer).setUint32(EXPIRES_OFFSET, 0xffff_ffff, true);
      map.update(encodeKey(key), value);
    },
    entries: () => readAll(map, family),
    [Symbol.dispose]: () => map[Symbol.dispose](),
  };
}

/** The key of the entry for replies to a translated flow. */
export function reverseKey(key: FlowKey, { address, port }: Translation): FlowKey {
  const { dst, dport, protocol } = key;
  return { src: dst, dst: address, sport: dport, dport: port, protocol, kind: KIND.IN };
}

/** Network order; source, destination, ports, protocol, kind, two bytes of padding. */
export function encodeKey({ src, dst, sport, dport, protocol, kind }: FlowKey): Uint8Array {
  const addresses = [...ipaddr.parse(src).toByteArray(), ...ipaddr.parse(dst).toByteArray()];
  const bytes = Uint8Array.from([...addresses, 0, 0, 0, 0, protocol, kind, 0, 0]);
  const view = new DataView(bytes.buffer);
  view.setUint16(addresses.length, sport);
  view.setUint16(addresses.length + 2, dport);
  return bytes;
}

function decodeKey(bytes: Uint8Array): FlowKey {
  const size = (bytes.length - 8) / 2;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    src: addressText(bytes.subarray(0, size)),
    dst: addressText(bytes.subarray(size, 2 * size)),
    sport: view.getUint16(2 * size),
    dport: view.getUint16(2 * size + 2),
    protocol: view.getUint8(2 * size + 4),
    kind: view.getUint8(2 * size + 5),
  };
}

function decodeTranslation(value: Uint8Array, family: Family): Translation {
  const size = family === 'ipv4' ? 4 : 16;
  const port = new DataView(value.buffer, value.byteOffset).getUint16(size);
  return { address: addressText(value.subarray(0, size)), port };
}

async function readAll(map: BpfMap, family: Family) {
  const all: { key: FlowKey; value: Uint8Array; translation: Translation }[] = [];
  for await (const { keys, values, count } of map.lookupBatch()) {
    for (let i = 0; i < count; i++) {
      const key = decodeKey(keys.subarray(i * map.keySize, (i + 1) * map.keySize));
      const value = values.slice(i * map.valueSize, (i + 1) * map.valueSize);
      all.push({ key, value, translation: decodeTranslation(value, family) });
    }
  }
  return all;
}

function addressText(bytes: Uint8Array): string {
  const parsed = ipaddr.fromByteArray([...bytes]);
  return parsed instanceof ipaddr.IPv6 ? parsed.toRFC5952String() : parsed.toString();
}
