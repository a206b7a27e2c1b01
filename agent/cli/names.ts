const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'ICMP',
  6: 'TCP',
  17: 'UDP',
  58: 'ICMPv6',
  132: 'SCTP',
};

const ALIASES: Readonly<Record<string, number>> = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  icmpv6: 58,
  icmp6: 58,
  'ipv6-icmp': 58,
  sctp: 132,
};

const KINDS: Readonly<Record<number, string>> = { 0: 'OUT', 1: 'IN', 4: 'SVC' };

/** Bit of `kind` that marks a companion entry. */
export const RELATED = 2;

/** `TCP`, `ICMPv6`, …; the number of a protocol without a name here. */
export function protocolName(proto: number): string {
  return PROTOCOLS[proto] ?? String(proto);
}

/** `tcp`, `ICMPv6`, `132` → the protocol number; undefined when it is none. */
export function protocolNumber(text: string): number | undefined {
  const known = ALIASES[text.toLowerCase()];
  if (known !== undefined) return known;
  return /^\d{1,3}$/.test(text) && Number(text) < 256 ? Number(text) : undefined;
}

/** `OUT`, `IN` or `SVC`, with or without the RELATED bit. */
export function kindName(kind: number): string {
  return KINDS[kind & ~RELATED] ?? String(kind & ~RELATED);
}

/** `out`, `IN`, `svc` → the number without the RELATED bit; undefined when it is none. */
export function kindNumber(text: string): number | undefined {
  const upper = text.toUpperCase();
  const found = Object.entries(KINDS).find(([, name]) => name === upper);
  return found && Number(found[0]);
}

export function isRelated(kind: number): boolean {
  return (kind & RELATED) !== 0;
}
