import { FAMILIES, type Family } from '../lib/ip.ts';
import { type Part, rangesOf } from './parts.ts';

/** What the maps of a family hold, as bpf/maps.h has it; of `rev_nat`, the indexes. */
export const CAPACITY = {
  services: 131_072,
  backends: 262_144,
  revNat: 65_535,
  tables: 131_072,
  ranges: 65_536,
} as const;

type Kind = keyof typeof CAPACITY;
type Rows = Record<Kind, number>;

const KINDS = Object.keys(CAPACITY) as Kind[];
const WORDS: Readonly<Record<Kind, string>> = {
  services: 'rows of frontends and their addresses',
  backends: 'backends',
  revNat: 'frontends',
  tables: 'tables of backends',
  ranges: 'source ranges',
};

/** What is left in the maps, while services are taken into the desired state. */
export interface Room {
  /** Takes what the parts of a service need, or nothing: then why there is no room for them. */
  take(parts: readonly Part[]): string | undefined;
}

export function createRoom(): Room {
  let used: Record<Family, Rows> = { ipv4: noRows(), ipv6: noRows() };
  const addresses = new Set<string>();
  return {
    take(parts) {
      const next = { ipv4: { ...used.ipv4 }, ipv6: { ...used.ipv6 } };
      for (const part of parts) addRows(next[part.family], part);
      const fresh = new Set(parts.flatMap(addressesOf).filter((text) => !addresses.has(text)));
      const [family] = parts.map((part) => part.family);
      if (family) next[family].services += fresh.size;
      const full = KINDS.find((kind) => FAMILIES.some((of) => next[of][kind] > CAPACITY[kind]));
      if (full) return `no room for it: a family has ${CAPACITY[full]} ${WORDS[full]} at most`;
      used = next;
      for (const text of fresh) addresses.add(text);
      return undefined;
    },
  };
}

function noRows(): Rows {
  return { services: 0, backends: 0, revNat: 0, tables: 0, ranges: 0 };
}

function addRows(rows: Rows, part: Part): void {
  const { service, frontends, isSplit, external, internal } = part;
  rows.services += frontends.length * (isSplit ? 2 : 1);
  rows.backends += service.backends.length;
  rows.revNat += frontends.length;
  rows.tables += (external.length > 0 ? 1 : 0) + (isSplit && internal.length > 0 ? 1 : 0);
  rows.ranges += rangesOf(part).length;
}

/** Each has a row for the ports that no service has. A service with addresses has one family. */
function addressesOf({ frontends }: Part): string[] {
  return frontends.filter(({ kind }) => kind === 'service').map(({ address }) => address);
}
