/** Kinds of maps, by the name that listings print. */
export const MAP_TYPES = {
  hash: 1,
  array: 2,
  prog_array: 3,
  percpu_hash: 5,
  percpu_array: 6,
  lru_hash: 9,
  lru_percpu_hash: 10,
  lpm_trie: 11,
  array_of_maps: 12,
  hash_of_maps: 13,
  ringbuf: 27,
} as const;

export type MapType = keyof typeof MAP_TYPES | `type ${number}`;

/** Creation flags, OR-ed. */
export const MAP_FLAGS = {
  noPrealloc: 1 << 0,
  noCommonLru: 1 << 1,
  mmapable: 1 << 10,
  /** An array whose capacity may differ between the slots of an outer map. */
  innerMap: 1 << 12,
} as const;

const NAMES = new Map<number, MapType>(
  Object.entries(MAP_TYPES).map(([name, number]) => [number, name as MapType]),
);

export function mapTypeName(type: number): MapType {
  return NAMES.get(type) ?? `type ${type}`;
}

export function isPerCpu(type: MapType): boolean {
  return type.startsWith('percpu_') || type === 'lru_percpu_hash';
}

export function isMapInMap(type: MapType): boolean {
  return type === 'array_of_maps' || type === 'hash_of_maps';
}
