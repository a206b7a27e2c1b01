import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { unpin } from '../kernel/fs.ts';
import { type BpfMap, openPinnedMap } from '../kernel/map.ts';
import { type BpfObject, openObject } from '../kernel/object.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { CONNECTION_TABLES, type ConnectionTable, HOOKS, OUTER_SUFFIX } from '../tables/names.ts';
import { type Programs, pinnedProgramIds } from './attach.ts';
import { carryOver, endCarryOver, type LoadedTable } from './carry-over.ts';
import { type LayoutRecord, readLayoutRecord, writeLayoutRecord } from './layout-record.ts';
import { configBytes, type LoadSettings } from './load-settings.ts';
import type { Logger } from './logger.ts';
import { objectPath } from './objects.ts';
import { type FoundTable, findTables, isOuter, type TableSizes } from './pinned-tables.ts';
import { familyDirectory, isStaged, stagedPin } from './pins.ts';
import { type ResizedMaps, recoverSlots } from './resize.ts';
import { type TableLayout, tableLayout } from './table-layout.ts';

export type { TableSizes } from './pinned-tables.ts';

/**
 * The loaded datapath: open maps by the name of their pin, and programs by their hook. A resize
 * puts another map in a table's place: ask again for one rather than keep it.
 */
export interface Datapath extends ResizedMaps, Disposable {
  mapNames(family: Family): string[];
  programs: Programs;
  /** The programs alone go on: over the same maps another one is loaded already. */
  closeMaps(): void;
  /**
   * To be called right before the programs are attached: copies what is in maps of another
   * layout, which stay pinned until `settle`. Does nothing without any.
   */
  carryOver(): Promise<void>;
  /**
   * To be called once the programs are attached: fetches what the old ones wrote to maps of
   * another layout meanwhile, and puts the new maps in their pins. Does nothing without any.
   */
  settle(): Promise<void>;
}

/** Opened and checked, not loaded: nothing in the kernel has changed yet. */
export interface PreparedDatapath extends Disposable {
  /** Entries of the smallest connection table. */
  smallestTable: number;
  /** Paths whose maps are not those that a loaded datapath goes on with. */
  strangers(loaded: Datapath): string[];
  /** Loads the families, and pins the maps that are new. Throws E_LOAD. */
  load(settings: LoadSettings): Promise<Datapath>;
}

interface PreparedFamily {
  family: Family;
  object: BpfObject;
  tables: Map<string, FoundTable>;
}

export interface DatapathOptions {
  bpffs: string;
  sizes: TableSizes;
  logger: Logger;
  /** Both, unless a test needs only one: a load takes a second of the verifier's time. */
  families?: readonly Family[];
}

/**
 * Opens the BPF objects and finds the pinned maps they will go on with. A connection table that
 * is there keeps its capacity. Throws E_LAYOUT when a pinned map has another layout, and what is
 * in it cannot be carried over.
 */
export function prepareDatapath(options: DatapathOptions): PreparedDatapath {
  using objects = new DisposableStack();
  using maps = new DisposableStack();
  const record = readLayoutRecord(options.bpffs);
  const pinned = pinnedProgramIds(options.bpffs);
  const users = record.staging.filter((id) => pinned.has(id));
  const known = { layouts: record.maps, inUse: users.length > 0 };
  const families = (options.families ?? FAMILIES).map((family): PreparedFamily => {
    const object = objects.use(openObject(objectPath(`${family}.bpf.o`)));
    const context = { ...options, ...known, family, object, stack: maps };
    return { family, object, tables: findTables(context) };
  });
  const owned = { objects: objects.move(), maps: maps.move() };
  const capacities = families.flatMap(({ tables }) =>
    CONNECTION_TABLES.map((name) => {
      const found = tables.get(name);
      return (found?.source ?? found?.target)?.maxEntries ?? options.sizes[name];
    }),
  );
  return {
    smallestTable: Math.min(...capacities),
    strangers: (loaded) =>
      families.flatMap(({ family, tables }) =>
        [...tables.values()]
          .filter(({ name, target }) => target?.id !== loaded.map(family, name).id)
          .map(({ path }) => path),
      ),
    async load(settings) {
      for (const { family, object } of families) {
        object.setRodata(configBytes(family, object.rodata(), settings));
      }
      await Promise.all(families.map(({ object }) => object.loadAsync()));
      return openLoaded(families, owned.maps.move(), { ...record, staging: users }, options);
    },
    [Symbol.dispose]() {
      owned.maps.dispose();
      owned.objects.dispose();
    },
  };
}

function openLoaded(
  families: PreparedFamily[],
  found: DisposableStack,
  record: LayoutRecord,
  { bpffs, logger }: DatapathOptions,
): Datapath {
  using stack = new DisposableStack();
  stack.use(found);
  const tables = families.flatMap(({ family, object, tables: found }) =>
    [...found.values()].map(
      (table): LoadedTable => ({ ...table, family, map: stack.use(object.map(table.name)) }),
    ),
  );
  const programs = {} as Programs;
  for (const { family, object } of families) {
    const opened = HOOKS.map((hook) => [hook, stack.use(object.program(hook))]);
    programs[family] = Object.fromEntries(opened);
    mkdirSync(familyDirectory(bpffs, family), { recursive: true, mode: 0o700 });
  }
  const replaced = tables.filter(({ state }) => state === 'replaced');
  const current = layoutsOf(tables);
  writeLayoutRecord(bpffs, {
    maps: new Map([...layoutsBefore(replaced, record), ...current]),
    staging: replaced.length > 0 ? [...record.staging, ...idsOf(programs)] : [],
  });
  for (const table of tables) pinTable(table);
  const maps = stack.use(openMaps(tables));
  recoverTables(tables, maps);
  sweepStaged(families, bpffs, replaced);
  for (const { target } of tables) target?.close();

  const owned = stack.move();
  return {
    ...maps,
    programs,
    closeMaps: () => maps[Symbol.dispose](),
    carryOver: () => carryOver(replaced, logger),
    async settle() {
      if (replaced.length === 0) return;
      await endCarryOver(replaced, logger);
      writeLayoutRecord(bpffs, { maps: current, staging: [] });
      for (const { source, previous } of replaced)
        for (const map of [source, previous]) map?.close();
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

type OpenMaps = Pick<Datapath, 'map' | 'mapNames' | 'previous' | 'put'> & Disposable;

/** Owns the maps of tables, and what a resize puts in their place. */
function openMaps(tables: readonly LoadedTable[]): OpenMaps {
  const maps = new Map(tables.map(({ family, name, map }) => [`${family}/${name}`, map]));
  const halfway = new Map<string, BpfMap>();
  for (const { family, name, state, previous } of tables) {
    if (state === 'adopted' && previous) halfway.set(`${family}/${name}`, previous);
  }
  return {
    map(family, name) {
      const map = maps.get(`${family}/${name}`);
      if (!map) throw new RangeError(`there is no map ${family}/${name}`);
      return map;
    },
    mapNames: (family) =>
      [...maps.keys()]
        .filter((path) => path.startsWith(`${family}/`))
        .map((path) => path.slice(family.length + 1)),
    previous: (family, table) => halfway.get(`${family}/${table}`),
    put(family, table, current, previous) {
      const path = `${family}/${table}`;
      const before = [maps.get(path), halfway.get(path)];
      maps.set(path, current);
      if (previous) halfway.set(path, previous);
      else halfway.delete(path);
      for (const map of before) if (map !== current && map !== previous) map?.close();
    },
    [Symbol.dispose]() {
      for (const map of [...maps.values(), ...halfway.values()]) map.close();
    },
  };
}

/** Undoes resizes that were cut short early on; the others are there to be finished. */
function recoverTables(tables: readonly LoadedTable[], { map }: OpenMaps): void {
  for (const { family, name, state, path } of tables) {
    if (state === 'replaced' || !CONNECTION_TABLES.includes(name as ConnectionTable)) continue;
    recoverSlots(path, map(family, name + OUTER_SUFFIX), map(family, name));
  }
}

function idsOf(programs: Programs): number[] {
  return Object.values(programs).flatMap((of) => Object.values(of).map(({ id }) => id));
}

function layoutsOf(tables: LoadedTable[]): LayoutRecord['maps'] {
  const inner = tables.filter(({ name }) => !isOuter(name));
  return new Map(
    inner.flatMap(({ family, name, state, map, previous }): [number, TableLayout][] => {
      const layout = tableLayout(family, name);
      const both = state === 'adopted' && previous ? [map, previous] : [map];
      return both.map(({ id }) => [id, layout]);
    }),
  );
}

function layoutsBefore(replaced: LoadedTable[], { maps }: LayoutRecord): LayoutRecord['maps'] {
  const ids = new Set(replaced.flatMap(({ source, previous }) => [source?.id, previous?.id]));
  return new Map([...maps].filter(([id]) => ids.has(id)));
}

/** Each pin comes, or changes, in one step. What is replaced keeps its pin for now. */
function pinTable({ state, path, target, map }: LoadedTable): void {
  if (state === 'created') map.pin(path, { replace: true });
  if (state === 'adopted') repairPin(map, path);
  if (state === 'replaced' && !target) {
    unpin(stagedPin(path));
    map.pin(stagedPin(path));
  }
}

/** A start that was cut short may have left the map in the staged pin, or in none. */
function repairPin(map: BpfMap, path: string): void {
  using pinned = openPinnedMap(path);
  if (pinned?.id === map.id) return;
  using staged = openPinnedMap(stagedPin(path));
  if (staged?.id === map.id) renameSync(stagedPin(path), path);
  else map.pin(path, { replace: true });
}

/** What starts that were cut short have staged and nobody goes on with. */
function sweepStaged(
  families: readonly PreparedFamily[],
  bpffs: string,
  replaced: LoadedTable[],
): void {
  const used = new Set(replaced.map(({ path }) => stagedPin(path)));
  for (const { family } of families) {
    const directory = familyDirectory(bpffs, family);
    for (const name of readdirSync(directory).filter(isStaged)) {
      const path = join(directory, name);
      if (!used.has(path)) unpin(path);
    }
  }
}
