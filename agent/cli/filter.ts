import type { Command } from 'commander';
import type { Tuple } from '../abi/generated.ts';
import { SekishoError } from '../lib/errors.ts';
import type { Family, Prefix } from '../lib/ip.ts';
import { FAMILIES, parsePrefix, prefixContains } from '../lib/ip.ts';
import { kindNumber, protocolNumber, RELATED } from './names.ts';

/** Option values as the user wrote them. */
export interface FilterOptions {
  family?: string;
  proto?: string;
  src?: string;
  dst?: string;
  sport?: string;
  dport?: string;
  kind?: string;
}

/** What a listing is restricted to. */
export interface Filter {
  /** Families that can match at all. */
  families: readonly Family[];
  /** The one protocol that can match, if there is one. */
  proto: number | undefined;
  /** Whether a tuple of one of `families` matches. */
  matches(tuple: Tuple): boolean;
}

/** Declares the filter options, which are the same words on every command that takes them. */
export function addFilterOptions(command: Command): Command {
  return command
    .option('--family <family>', 'ipv4 or ipv6')
    .option('--proto <protocol>', 'tcp, udp, icmp, icmpv6, sctp or a number')
    .option('--src <prefix>', 'source address or prefix')
    .option('--dst <prefix>', 'destination address or prefix')
    .option('--sport <port>', 'source port')
    .option('--dport <port>', 'destination port')
    .option('--kind <kind>', 'out, in or svc');
}

/** Compiles options once into a cheap test. Throws E_USAGE. */
export function compileFilter(options: FilterOptions): Filter {
  const proto = parsed(
    '--proto',
    options.proto,
    protocolNumber,
    'tcp, udp, icmp, icmpv6, sctp or 0-255',
  );
  const kind = parsed('--kind', options.kind, kindNumber, 'out, in or svc');
  const sport = parsed('--sport', options.sport, portNumber, '0-65535');
  const dport = parsed('--dport', options.dport, portNumber, '0-65535');
  const src = parsed('--src', options.src, prefixOf, 'an address or prefix');
  const dst = parsed('--dst', options.dst, prefixOf, 'an address or prefix');
  const family = parsed('--family', options.family, familyNamed, 'ipv4 or ipv6');
  return {
    families: commonFamilies([family, src?.family, dst?.family]),
    proto,
    matches: (tuple) =>
      (proto === undefined || tuple.proto === proto) &&
      (kind === undefined || (tuple.kind & ~RELATED) === kind) &&
      (sport === undefined || tuple.sport === sport) &&
      (dport === undefined || tuple.dport === dport) &&
      (src === undefined || prefixContains(src, tuple.saddr)) &&
      (dst === undefined || prefixContains(dst, tuple.daddr)),
  };
}

function parsed<T>(
  option: string,
  text: string | undefined,
  parse: (text: string) => T | undefined,
  expected: string,
): T | undefined {
  if (text === undefined) return undefined;
  const value = parse(text);
  if (value !== undefined) return value;
  throw new SekishoError('E_USAGE', `${option} takes ${expected}, not "${text}"`);
}

function portNumber(text: string): number | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined;
}

function prefixOf(text: string): Prefix | undefined {
  try {
    return parsePrefix(text);
  } catch {
    return undefined;
  }
}

function familyNamed(text: string): Family | undefined {
  const lower = text.toLowerCase();
  return FAMILIES.find((family) => family === lower);
}

function commonFamilies(wanted: readonly (Family | undefined)[]): readonly Family[] {
  const named = new Set(wanted.filter((family) => family !== undefined));
  if (named.size > 1) {
    throw new SekishoError('E_USAGE', 'the filters name both IPv4 and IPv6: nothing can match');
  }
  return named.size === 0 ? FAMILIES : [...named];
}
