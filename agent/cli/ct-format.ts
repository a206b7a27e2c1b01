import type { CtEntry, Tuple } from '../abi/generated.ts';
import { formatAddress, formatEndpoint } from '../lib/ip.ts';
import { isRelated, kindName, protocolName } from './names.ts';

/** Flag bits in the order they are printed; positions are published. */
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [0x0001, 'RxClosing'],
  [0x0002, 'TxClosing'],
  [0x0008, 'LBLoopback'],
  [0x0010, 'SeenNonSyn'],
  [0x0020, 'NodePort'],
  [0x0040, 'ProxyRedirect'],
  [0x0080, 'DSRInternal'],
  [0x0100, 'FromL7LB'],
  [0x0400, 'FromTunnel'],
];
const CLOSING = 0x0003;
const SEEN_BOTH = 0x03;
const SVC = 4;

/**
 * The line of a conntrack entry. With `now` (seconds of the datapath's clock) it also says how
 * long the entry has left, which is negative once it has expired.
 */
export function formatConntrack(tuple: Tuple, entry: CtEntry, now?: number): string {
  const related = isRelated(tuple.kind) ? ' related' : '';
  const remaining = now === undefined ? '' : ` (remaining: ${entry.expires - now} sec(s))`;
  return (
    `${formatTuple(tuple)}${related} expires=${entry.expires}${remaining}` +
    ` Packets=${entry.packets} Bytes=${entry.bytes}` +
    ` RxFlagsSeen=${BYTES[entry.rx_flags_seen]} LastRxReport=${entry.last_rx_report}` +
    ` TxFlagsSeen=${BYTES[entry.tx_flags_seen]} LastTxReport=${entry.last_tx_report}` +
    ` Flags=${flagWords(entry.flags)} RevNAT=${entry.rev_nat_index}` +
    ` SourceSecurityID=${entry.src_identity} BackendID=${entry.backend_id}`
  );
}

/** `TCP OUT 10.64.0.36:54260 -> 10.64.0.64:8000`. */
export function formatTuple({ proto, kind, saddr, sport, daddr, dport }: Tuple): string {
  const from = formatEndpoint(saddr, sport);
  return `${protocolName(proto)} ${kindName(kind)} ${from} -> ${formatEndpoint(daddr, dport)}`;
}

/** Names of the set flag bits; bits without a name together as `Unknown=0x…`. */
export function flagNames(flags: number): string[] {
  const names: string[] = [];
  let rest = flags;
  for (const [bit, name] of FLAG_NAMES) {
    if ((flags & bit) === 0) continue;
    names.push(name);
    rest &= ~bit;
  }
  if (rest !== 0) names.push(`Unknown=${hex(rest, 4)}`);
  return names;
}

/** The published JSON form of a conntrack entry (docs/json.md). */
export function conntrackJson(tuple: Tuple, entry: CtEntry, now?: number) {
  return {
    ...tupleJson(tuple),
    related: isRelated(tuple.kind),
    state: conntrackState(tuple, entry, now),
    expires: entry.expires,
    remaining: now === undefined ? null : entry.expires - now,
    packets: Number(entry.packets),
    bytes: Number(entry.bytes),
    rxFlagsSeen: entry.rx_flags_seen,
    lastRxReport: entry.last_rx_report,
    txFlagsSeen: entry.tx_flags_seen,
    lastTxReport: entry.last_tx_report,
    flags: entry.flags,
    flagNames: flagNames(entry.flags),
    revNat: entry.rev_nat_index,
    sourceSecurityId: entry.src_identity,
    backendId: entry.backend_id,
    nat: isTranslated(entry)
      ? { address: formatAddress(entry.nat_addr), port: entry.nat_port }
      : null,
  };
}

/** The fields that say which flow an entry belongs to. */
export function tupleJson({ saddr, daddr, sport, dport, proto, kind }: Tuple) {
  return {
    family: saddr.length === 4 ? 'ipv4' : 'ipv6',
    protocol: protocolName(proto),
    kind: kindName(kind),
    source: { address: formatAddress(saddr), port: sport },
    destination: { address: formatAddress(daddr), port: dport },
  };
}

export const CONNTRACK_STATES = [
  'expired',
  'closing',
  'established',
  'unreplied',
  'one-way',
] as const;

export type ConntrackState = (typeof CONNTRACK_STATES)[number];

/**
 * What an entry is worth: seen from both sides or not. Service and related entries see one
 * side only by design, so they are `one-way` while they live.
 */
export function conntrackState(tuple: Tuple, entry: CtEntry, now?: number): ConntrackState {
  if (now !== undefined && entry.expires <= now) return 'expired';
  if ((entry.flags & CLOSING) !== 0) return 'closing';
  const { kind } = tuple;
  if (isRelated(kind) || kind === SVC) return 'one-way';
  return (entry.seen & SEEN_BOTH) === SEEN_BOTH ? 'established' : 'unreplied';
}

/** Few combinations of bits occur, in a million lines. */
const knownWords = new Map<number, string>();
/** `0x00` to `0xff`. */
const BYTES = Array.from({ length: 256 }, (_, byte) => hex(byte, 2));

/** `0x0003 [ RxClosing TxClosing ]`. */
function flagWords(flags: number): string {
  let words = knownWords.get(flags);
  if (words === undefined) {
    const names = flagNames(flags).map((name) => `${name} `);
    words = `${hex(flags, 4)} [ ${names.join('')}]`;
    knownWords.set(flags, words);
  }
  return words;
}

function isTranslated({ nat_addr, nat_port }: CtEntry): boolean {
  return nat_port !== 0 || nat_addr.some((byte) => byte !== 0);
}

function hex(value: number, digits: number): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
