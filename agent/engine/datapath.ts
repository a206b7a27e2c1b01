import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { counter } from '../abi/generated.ts';
import { type BpfMap, mapById, openPinnedMap } from '../kernel/map.ts';
import { type BpfObject, openObject } from '../kernel/object.ts';
import { SekishoError } from '../lib/errors.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { CONNECTION_TABLES, type ConnectionTable, HOOKS } from '../tables/names.ts';
import type { Programs } from './attach.ts';
import { configBytes, type LoadSettings } from './load-settings.ts';
import type { Logger } from './logger.ts';
import { objectPath } from './objects.ts';
import { mapPin } from './pins.ts';

const OUTER_SUFFIX = '_maps';
const CURRENT = new Uint8Array(4);

/** Entries of a connection table in each family. */
export type TableSizes = Record<ConnectionTable, number>;

/** The loaded datapath: open maps by the name of their pin, and programs by their hook. */
export interface Datapath extends Disposable {
  map(family: Family, name: string): BpfMap;
  mapNames(family: Family): string[];
  programs: Programs;
}

/** Opened and checked, not loaded: nothing in the kernel has changed yet. */
export interface PreparedDatapath extends Disposable {
  /** Loads both families, then pins the maps that are new. Throws E_LOAD. */
  load(settings: LoadSettings): Promise<Datapath>;
}

interface PreparedFamily {
  family: Family;
  object: BpfObject;
  /** Maps that were there already, by name. */
  adopted: Map<string, BpfMap>;
}

export interface DatapathOptions {
  bpffs: string;
  sizes: TableSizes;
  logger: Logger;
}

/**
 * Opens the BPF objects and finds the pinned maps they will go on with. A connection table that
 * is there keeps its capacity. Throws E_LAYOUT when a pinned map has another layout.
 */
export function prepareDatapath(options: DatapathOptions): PreparedDatapath {
  using stack = new DisposableStack();
  const families = FAMILIES.map((family) => prepareFamily(family, options, stack));
  const owned = stack.move();
  return {
    async load(settings) {
      for (const { family, object } of families) {
        object.setRodata(configBytes(family, object.rodata(), settings));
      }
      await Promise.all(families.map(({ object }) => object.loadAsync()));
      return openLoaded(families, options.bpffs);
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function prepareFamily(
  family: Family,
  { bpffs, sizes, logger }: DatapathOptions,
  stack: DisposableStack,
): PreparedFamily {
  const object = stack.use(openObject(objectPath(`${family}.bpf.o`)));
  const adopted = new Map<string, BpfMap>();
  for (const name of pinnedNames(object)) {
    const size = isConnectionTable(name) ? sizes[name] : undefined;
    const map = openCurrent(bpffs, family, name);
    if (!map) {
      if (size !== undefined) object.setMaxEntries(name, size);
      continue;
    }
    adopted.set(name, stack.use(map));
    adoptMap(object, name, map, mapPin(bpffs, family, name));
    if (size !== undefined && size !== map.maxEntries) {
      const fields = { family, table: name, capacity: map.maxEntries, configured: size };
      logger.warn(fields, 'table keeps the capacity it was created with');
    }
  }
  return { family, object, adopted };
}

/**
 * The outer map tells which table is current; the table's own pin follows it, and is opened
 * wherever it does: opening by id takes CAP_SYS_ADMIN.
 */
function openCurrent(bpffs: string, family: Family, name: string): BpfMap | undefined {
  const pinned = openPinnedMap(mapPin(bpffs, family, name));
  if (!isConnectionTable(name)) return pinned;
  using outer = openPinnedMap(mapPin(bpffs, family, name + OUTER_SUFFIX));
  const id = outer?.lookupId(CURRENT);
  if (id === undefined || id === pinned?.id) return pinned;
  const current = mapById(id);
  if (!current) return pinned;
  pinned?.close();
  return current;
}

function adoptMap(object: BpfObject, name: string, map: BpfMap, path: string): void {
  try {
    object.reuseMap(name, map);
  } catch (cause) {
    if (cause instanceof SekishoError && cause.code === 'E_LAYOUT')
      throw unknownLayout(path, cause);
    throw cause;
  }
  if (name === 'counters' && map.maxEntries !== counter.COUNTER_COUNT) throw unknownLayout(path);
}

function unknownLayout(path: string, cause?: SekishoError): SekishoError {
  const detail = cause ? `: ${cause.message}` : '';
  return new SekishoError('E_LAYOUT', `${path} is of another version${detail}`, {
    hint: 'sekisho cleanup discards what is pinned, all connections included',
    cause,
  });
}

function openLoaded(families: PreparedFamily[], bpffs: string): Datapath {
  using stack = new DisposableStack();
  const maps = new Map<string, BpfMap>();
  const programs = {} as Programs;
  for (const { family, object, adopted } of families) {
    mkdirSync(join(bpffs, family), { recursive: true, mode: 0o700 });
    for (const name of pinnedNames(object)) {
      const map = stack.use(object.map(name));
      maps.set(`${family}/${name}`, map);
      pinMap(map, mapPin(bpffs, family, name), adopted.has(name));
    }
    const opened = HOOKS.map((hook) => [hook, stack.use(object.program(hook))]);
    programs[family] = Object.fromEntries(opened);
  }
  const owned = stack.move();
  return {
    map(family, name) {
      const map = maps.get(`${family}/${name}`);
      if (!map) throw new SekishoError('E_NOT_FOUND', `the datapath has no map ${name}`);
      return map;
    },
    mapNames: (family) =>
      [...maps.keys()]
        .filter((path) => path.startsWith(`${family}/`))
        .map((path) => path.slice(family.length + 1)),
    programs,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function pinMap(map: BpfMap, path: string, adopted: boolean): void {
  if (!adopted) {
    map.pin(path, { replace: true });
    return;
  }
  using pinned = openPinnedMap(path);
  if (pinned?.id !== map.id) map.pin(path, { replace: true });
}

/** Tables before the outer maps that name them. */
function pinnedNames(object: BpfObject): string[] {
  const names = object.maps().filter((name) => !name.includes('.'));
  return names.sort((a, b) => Number(isOuter(a)) - Number(isOuter(b)));
}

function isOuter(name: string): boolean {
  return name.endsWith(OUTER_SUFFIX);
}

function isConnectionTable(name: string): name is ConnectionTable {
  return CONNECTION_TABLES.includes(name as ConnectionTable);
}
