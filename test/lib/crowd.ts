import { layouts } from '../../agent/abi/generated.ts';
import type { BpfMap } from '../../agent/kernel/map.ts';
import type { Family } from '../../agent/lib/ip.ts';

const TCP = 6;
const [OUT, IN] = [0, 1];
const PART = 8192;
/** Of the NAT range of the reverse entries. */
const FIRST_PORT = 32_768;
const PORTS = 32_768;

/** Made-up connections, numbered; each number is another flow. */
export interface Crowd {
  family: Family;
  /** Number of the first. */
  from?: number;
  count: number;
  /** Seconds of the datapath's clock. */
  expires: number;
}

/** Fills a connection table (`ct_tcp`) with established flows of many pods to many peers. */
export function fillConntrack(map: BpfMap, crowd: Crowd): Promise<void> {
  const { size, fields } = layouts[crowd.family].ct_entry;
  return fill(map, crowd, size, (keys, key, values, value, i) => {
    writeTuple(keys, key, crowd.family, i, OUT);
    values.setUint32(value + fields.expires.offset, crowd.expires, true);
    values.setUint32(value + fields.last_tx_report.offset, crowd.expires - 600, true);
    values.setUint32(value + fields.last_rx_report.offset, crowd.expires - 600, true);
    values.setUint16(value + fields.flags.offset, 0x10, true);
    values.setUint8(value + fields.tx_flags_seen.offset, 0x1a);
    values.setUint8(value + fields.rx_flags_seen.offset, 0x1b);
    values.setUint8(value + fields.seen.offset, 3);
    values.setUint32(value + fields.src_identity.offset, 100 + (i & 63), true);
  });
}

/** Fills an `snat` table with reverse entries: each holds one port towards one peer. */
export function fillNat(map: BpfMap, crowd: Crowd): Promise<void> {
  const { size, fields } = layouts[crowd.family].nat_entry;
  return fill(map, crowd, size, (keys, key, values, value, i) => {
    writeTuple(keys, key, crowd.family, i, IN);
    values.setUint8(value + fields.addr.offset, 10);
    values.setUint16(value + fields.port.offset, FIRST_PORT + (i % PORTS));
    values.setUint8(value + fields.class.offset, 1);
    values.setUint32(value + fields.expires.offset, crowd.expires, true);
    values.setUint32(value + fields.created.offset, crowd.expires - 600, true);
  });
}

type WriteEntry = (
  keys: DataView,
  key: number,
  values: DataView,
  value: number,
  index: number,
) => void;

async function fill(
  map: BpfMap,
  { from = 0, count, family }: Crowd,
  valueSize: number,
  write: WriteEntry,
): Promise<void> {
  const keySize = layouts[family].tuple.size;
  const keys = new Uint8Array(PART * keySize);
  const values = new Uint8Array(PART * valueSize);
  const [keyView, valueView] = [new DataView(keys.buffer), new DataView(values.buffer)];
  for (let done = 0; done < count; done += PART) {
    const part = Math.min(PART, count - done);
    for (let i = 0; i < part; i++) {
      write(keyView, i * keySize, valueView, i * valueSize, from + done + i);
    }
    await map.updateBatch(keys, values, part);
  }
}

/**
 * Flow `i` of pod 10.0.x.y (fd00::x:y) to a peer of 198.18.0.0/15 (2001:db8::/111), port 443; a
 * reverse entry is the reply to the node's address 192.0.2.1 (2001:db8:ffff::1).
 */
function writeTuple(keys: DataView, at: number, family: Family, i: number, kind: number): void {
  const wide = family === 'ipv6';
  const size = wide ? 16 : 4;
  const [pod, peer] = [at, at + size];
  const [inside, outside] = kind === OUT ? [pod, peer] : [peer, pod];
  const low = size - 4;
  if (wide) {
    keys.setUint32(inside, kind === OUT ? 0xfd000000 : 0x20010db8);
    keys.setUint32(outside, 0x20010db8);
    if (kind === IN) keys.setUint16(inside + 4, 0xffff);
    keys.setUint32(inside + low, kind === OUT ? i >>> 15 : 1);
    keys.setUint32(outside + low, i % 131_071);
  } else {
    keys.setUint32(inside, kind === OUT ? 0x0a000000 + (i >>> 15) : 0xc0000201);
    keys.setUint32(outside, 0xc6120000 + (i % 131_071));
  }
  const ports = at + 2 * size;
  const port = FIRST_PORT + (i % PORTS);
  keys.setUint16(ports, kind === OUT ? port : 443);
  keys.setUint16(ports + 2, kind === OUT ? 443 : port);
  keys.setUint8(ports + 4, TCP);
  keys.setUint8(ports + 5, kind);
}
