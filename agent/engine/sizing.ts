import { layouts } from '../abi/generated.ts';
import { ConfigError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import { FAMILIES } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';

/** The tables whose size depends on the machine, by their key under `maps:`. */
export const SIZED_TABLES = ['ctTcp', 'ctAny', 'nat'] as const;
export type SizedTable = (typeof SIZED_TABLES)[number];

export interface MapSettings extends Record<SizedTable, number | 'auto'> {
  /** Share of the memory for all tables of both families together. */
  memoryRatio: number;
}

/** Under which name each is pinned. */
export const PINNED_AS = {
  ctTcp: 'ct_tcp',
  ctAny: 'ct_any',
  nat: 'snat',
} as const satisfies Record<SizedTable, ConnectionTable>;

/** Entries of each table; the two families have one map of this size each. */
export type MapSizes = Record<SizedTable, number>;

const DEFAULT_ENTRIES: MapSizes = { ctTcp: 524_288, ctAny: 262_144, nat: 524_288 };
const LEAST_ENTRIES: MapSizes = { ctTcp: 131_072, ctAny: 65_536, nat: 131_072 };
const MOST_ENTRIES = 16_777_216;

/** The sizes that a table can be asked to have. */
export const [LEAST_SIZE, MOST_SIZE] = [1024, MOST_ENTRIES];

const FILL_SHARE = 64;
const LEAST_FILL_STEP = 64;
const MOST_FILL_STEP = 4096;

/*
 * Measured on LRU hash maps (memlock of fdinfo, Linux 6.18): an element is its header, key and
 * value, each rounded up to 8 bytes; every power of two of elements has its bucket besides.
 */
const ELEMENT_HEADER = 48;
const BUCKET = 16;
const MAP_HEADER = 896;

const VALUES = { ctTcp: 'ct_entry', ctAny: 'ct_entry', nat: 'nat_entry' } as const;

/**
 * Sizes the tables for a machine with `totalMemory` bytes. Explicit numbers win. Throws
 * ConfigError (`maps.nat`) when an explicit NAT size exceeds both connection tables together.
 */
export function sizeMaps(settings: MapSettings, totalMemory: number): MapSizes {
  const budget = totalMemory * settings.memoryRatio;
  const scale = budget / sum((table) => DEFAULT_ENTRIES[table] * pairCost(table));
  const automatic = (table: SizedTable) =>
    clamp(Math.floor(DEFAULT_ENTRIES[table] * scale), LEAST_ENTRIES[table], MOST_ENTRIES);
  const chosen = (table: SizedTable) => {
    const setting = settings[table];
    return setting === 'auto' ? automatic(table) : setting;
  };
  const sizes = { ctTcp: chosen('ctTcp'), ctAny: chosen('ctAny'), nat: chosen('nat') };
  return { ...sizes, nat: boundNat(sizes, settings.nat !== 'auto') };
}

/**
 * Insertions of one CPU into a table after which it tells the agent: a power of two of 64 to 4,096,
 * small enough that all CPUs together have added at most 1/64 of the smallest table in silence,
 * as far as 64 allows it.
 */
export function fillStep(smallestTable: number, cpus: number): number {
  const share = Math.max(1, smallestTable / FILL_SHARE / cpus);
  return clamp(2 ** Math.floor(Math.log2(share)), LEAST_FILL_STEP, MOST_FILL_STEP);
}

/** Bytes of kernel memory that a table of one family takes, all of it allocated at creation. */
export function mapMemory(table: SizedTable, family: Family, entries: number): number {
  const buckets = 2 ** Math.ceil(Math.log2(entries));
  return MAP_HEADER + entries * elementBytes(table, family) + buckets * BUCKET;
}

/** Bytes of all tables of both families. */
export function totalMapMemory(sizes: MapSizes): number {
  return sum((table) =>
    FAMILIES.reduce((bytes, family) => bytes + mapMemory(table, family, sizes[table]), 0),
  );
}

/** Bytes that one more connection costs a table: element and bucket. */
export function elementCost(table: SizedTable, family: Family): number {
  return elementBytes(table, family) + BUCKET;
}

function elementBytes(table: SizedTable, family: Family): number {
  const { tuple, [VALUES[table]]: value } = layouts[family];
  return ELEMENT_HEADER + align8(tuple.size) + align8(value.size);
}

function pairCost(table: SizedTable): number {
  return elementCost(table, 'ipv4') + elementCost(table, 'ipv6');
}

function boundNat({ ctTcp, ctAny, nat }: MapSizes, isExplicit: boolean): number {
  const bound = ctTcp + ctAny;
  if (nat <= bound) return nat;
  if (!isExplicit) return Math.floor((bound * 2) / 3);
  const message = `expected at most ctTcp + ctAny (${bound}), got ${nat}`;
  throw new ConfigError(message, { path: 'maps.nat' });
}

function sum(value: (table: SizedTable) => number): number {
  return SIZED_TABLES.reduce((total, table) => total + value(table), 0);
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}

function align8(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
