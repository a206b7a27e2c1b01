import { createMap, openPinnedMap } from '../kernel/map.ts';
import { SekishoError } from '../lib/errors.ts';
import { layoutsPin } from './pins.ts';
import type { TableLayout } from './table-layout.ts';

/** What is known of the pinned maps. The kernel gives an id to one map, or program, only. */
export interface LayoutRecord {
  /** Layouts by the id of the map. */
  maps: ReadonlyMap<number, TableLayout>;
  /** Ids of programs over staged maps: once one of them is on a hook, those maps are in use. */
  staging: readonly number[];
}

const VERSION = 1;
const SIZE = 64 * 1024;
const FIRST = new Uint8Array(4);

interface Stored {
  version: number;
  maps: Record<string, TableLayout>;
  staging?: number[];
}

/**
 * What the pinned maps look like, as whoever made them wrote it down: the kernel's own record of
 * it, BTF, takes CAP_SYS_ADMIN to read. Empty where nothing is pinned. Throws E_LAYOUT when it
 * cannot be understood.
 */
export function readLayoutRecord(bpffs: string): LayoutRecord {
  const path = layoutsPin(bpffs);
  using map = openPinnedMap(path);
  if (!map) return { maps: new Map(), staging: [] };
  const bytes = map.keySize === FIRST.length ? map.lookup(FIRST) : undefined;
  const { maps, staging = [] } = parse(bytes ?? new Uint8Array(), path);
  const layouts = Object.entries(maps).map(([id, layout]): [number, TableLayout] => [
    Number(id),
    layout,
  ]);
  return { maps: new Map(layouts), staging };
}

/** Writes the record in one step; nothing when it is there already. */
export function writeLayoutRecord(bpffs: string, { maps, staging }: LayoutRecord): void {
  const stored: Stored = {
    version: VERSION,
    maps: Object.fromEntries(maps),
    staging: [...staging],
  };
  const value = new Uint8Array(SIZE);
  const text = Buffer.from(JSON.stringify(stored));
  value.set(text);
  const path = layoutsPin(bpffs);
  using pinned = openPinnedMap(path);
  const shape = { type: 'array', name: 'layouts', keySize: 4, valueSize: SIZE } as const;
  using map = pinned ?? createMap({ ...shape, maxEntries: 1 });
  if (pinned && Buffer.compare(map.lookup(FIRST) ?? FIRST, value) === 0) return;
  map.update(FIRST, value);
  if (!pinned) map.pin(path);
}

/** Adds a map to the record. */
export function recordLayout(bpffs: string, id: number, layout: TableLayout): void {
  const { maps, staging } = readLayoutRecord(bpffs);
  writeLayoutRecord(bpffs, { maps: new Map([...maps, [id, layout]]), staging });
}

/** Takes a map out of the record. */
export function forgetLayout(bpffs: string, id: number): void {
  const { maps, staging } = readLayoutRecord(bpffs);
  const left = [...maps].filter(([recorded]) => recorded !== id);
  writeLayoutRecord(bpffs, { maps: new Map(left), staging });
}

function parse(bytes: Uint8Array, path: string): Stored {
  const text = Buffer.from(bytes).toString('utf8').replace(/\0+$/, '');
  try {
    const stored = JSON.parse(text) as Stored;
    if (stored.version === VERSION) return stored;
  } catch {
    // Neither is what another version wrote, and both are refused.
  }
  throw new SekishoError('E_LAYOUT', `${path} cannot be understood`, {
    hint: 'sekisho cleanup discards what is pinned, all connections included',
  });
}
