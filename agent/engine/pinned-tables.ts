import type { BpfMap } from '../kernel/map.ts';
import { openPinnedMap } from '../kernel/map.ts';
import type { BpfObject } from '../kernel/object.ts';
import { SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import { CONNECTION_TABLES, type ConnectionTable, OUTER_SUFFIX } from '../tables/names.ts';
import { CURRENT, openMap, PREVIOUS } from '../tables/slots.ts';
import type { LayoutRecord } from './layout-record.ts';
import type { Logger } from './logger.ts';
import { mapPin, stagedPin } from './pins.ts';
import { planTable, type TablePlan, tableLayout } from './table-layout.ts';

/** Entries of a connection table in each family. */
export type TableSizes = Record<ConnectionTable, number>;

/**
 * A map of the object and what is pinned for it. `created`: nothing was. `adopted`: the pinned
 * one goes on. `replaced`: the pinned one has another layout, and `plan` tells what moves.
 */
export interface FoundTable {
  name: string;
  /** Of the pin. */
  path: string;
  state: 'created' | 'adopted' | 'replaced';
  /** The pinned map, where it is replaced by another one. */
  source?: BpfMap;
  /** What a resize of the pinned one had not emptied yet, when it was cut short. */
  previous?: BpfMap;
  plan?: TablePlan;
  /**
   * The map that goes on, where it is there already: adopted, or staged by a start that was cut
   * short once its programs used it. What nobody used is made anew: it is as old as that start.
   */
  target?: BpfMap;
}

export interface FindContext {
  bpffs: string;
  family: Family;
  object: BpfObject;
  sizes: TableSizes;
  /** Layouts of the pinned maps. */
  layouts: LayoutRecord['maps'];
  /** Whether programs on hooks write to the staged maps already. */
  inUse: boolean;
  logger: Logger;
  /** Owns what is opened. */
  stack: DisposableStack;
}

/**
 * Finds what is pinned for each map of an object, and hands the object what it goes on with. A
 * connection table keeps its capacity. Throws E_LAYOUT for what cannot be carried over.
 */
export function findTables(context: FindContext): Map<string, FoundTable> {
  const found = new Map<string, FoundTable>();
  for (const name of pinnedNames(context.object)) {
    const inner = isOuter(name) ? found.get(name.slice(0, -OUTER_SUFFIX.length)) : undefined;
    found.set(name, inner ? findOuter(context, name, inner) : findTable(context, name));
  }
  return found;
}

/** Whether the map is one of those that lead to a connection table. */
export function isOuter(name: string): boolean {
  return name.endsWith(OUTER_SUFFIX);
}

function findTable(context: FindContext, name: string): FoundTable {
  const { bpffs, family, object, sizes, layouts, inUse, logger, stack } = context;
  const path = mapPin(bpffs, family, name);
  const size = isConnectionTable(name) ? sizes[name] : undefined;
  const { current: pinned, previous } = openPinned(bpffs, family, name);
  if (!pinned) {
    if (size !== undefined) object.setMaxEntries(name, size);
    return { name, path, state: 'created' };
  }
  stack.use(pinned);
  const rest = previous ? { previous: stack.use(previous) } : {};
  if (size !== undefined && size !== pinned.maxEntries) {
    const fields = { family, table: name, capacity: pinned.maxEntries, configured: size };
    logger.warn(fields, 'table keeps the capacity it was created with');
  }
  const layout = tableLayout(family, name);
  const plan = planTable(name, pinned, layouts.get(pinned.id), layout);
  if (plan.kind === 'refuse') throw foreignLayout(path, plan.reason);
  if (plan.kind === 'adopt') {
    reuse(context, name, pinned, path);
    return { name, path, state: 'adopted', target: pinned, ...rest };
  }
  if (size !== undefined) object.setMaxEntries(name, pinned.maxEntries);
  const replaced: FoundTable = { name, path, state: 'replaced', source: pinned, plan, ...rest };
  const staged = inUse ? openPinnedMap(stagedPin(path)) : undefined;
  if (!staged) return replaced;
  stack.use(staged);
  if (planTable(name, staged, layouts.get(staged.id), layout).kind !== 'adopt') return replaced;
  reuse(context, name, staged, path);
  return { ...replaced, target: staged };
}

/** An outer map takes maps of one layout: it is replaced together with the table. */
function findOuter(context: FindContext, name: string, inner: FoundTable): FoundTable {
  const { bpffs, family, stack } = context;
  const path = mapPin(bpffs, family, name);
  const isReplaced = inner.state === 'replaced';
  const map = openPinnedMap(isReplaced ? stagedPin(path) : path);
  if (map) stack.use(map);
  const leads = map !== undefined && map.lookupId(CURRENT) === inner.target?.id;
  if (leads) reuse(context, name, map, path);
  const target = leads ? { target: map } : {};
  if (isReplaced) return { name, path, state: 'replaced', ...target };
  return { name, path, state: leads ? 'adopted' : 'created', ...target };
}

/**
 * The outer map tells which map of a table is current, and whether a resize was cut short; the
 * pins follow it, and are opened wherever they do: opening by id takes CAP_SYS_ADMIN.
 */
function openPinned(
  bpffs: string,
  family: Family,
  name: string,
): { current?: BpfMap | undefined; previous?: BpfMap | undefined } {
  const path = mapPin(bpffs, family, name);
  if (!isConnectionTable(name)) return { current: openPinnedMap(path) };
  using outer = openPinnedMap(path + OUTER_SUFFIX);
  const [id, before] = [outer?.lookupId(CURRENT), outer?.lookupId(PREVIOUS)];
  const current = (id === undefined ? undefined : openMap(id, path)) ?? openPinnedMap(path);
  if (before === undefined || before === current?.id) return { current };
  return { current, previous: openMap(before, path) };
}

function reuse({ object }: FindContext, name: string, map: BpfMap, path: string): void {
  try {
    object.reuseMap(name, map);
  } catch (cause) {
    if (cause instanceof SekishoError && cause.code === 'E_LAYOUT')
      throw foreignLayout(path, cause.message, cause);
    throw cause;
  }
}

function foreignLayout(path: string, reason: string, cause?: SekishoError): SekishoError {
  return new SekishoError('E_LAYOUT', `${path} is of another version: ${reason}`, {
    hint: 'sekisho cleanup discards what is pinned, all connections included',
    cause,
  });
}

/** Tables before the outer maps that name them. */
function pinnedNames(object: BpfObject): string[] {
  const names = object.maps().filter((name) => !name.includes('.'));
  return names.sort((a, b) => Number(isOuter(a)) - Number(isOuter(b)));
}

function isConnectionTable(name: string): name is ConnectionTable {
  return CONNECTION_TABLES.includes(name as ConnectionTable);
}
