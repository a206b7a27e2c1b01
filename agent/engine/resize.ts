import { renameSync } from 'node:fs';
import { unpin } from '../kernel/fs.ts';
import type { BpfMap } from '../kernel/map.ts';
import { openObject } from '../kernel/object.ts';
import { SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import { type ConnectionTable, OUTER_SUFFIX } from '../tables/names.ts';
import { CURRENT, PREVIOUS } from '../tables/slots.ts';
import { type Copier, type CopyResult, copierPath, loadCopier } from './copy.ts';
import { forgetLayout, recordLayout } from './layout-record.ts';
import { mapPin, previousPin, stagedPin } from './pins.ts';
import { tableLayout } from './table-layout.ts';

/*
 * A table changes its map in steps that each leave a state which the next start finishes or
 * undoes: {old, -} {old, old} {new, old} {new, -}, current and previous. The new map is pinned
 * before it is in a slot, and the old one, under a name of its own, as long as it is in one: who
 * has not CAP_SYS_ADMIN opens maps by their pins alone. Until the new map is current, a start goes
 * back to the old one (`recoverSlots`); from then on it goes on with the new one (`finishResize`).
 */

/** How often the copying is gone over for insertions that the kernel refused. */
const COPY_PASSES = 5;

/** What a resize needs of a loaded datapath. */
export interface ResizedMaps {
  map(family: Family, name: string): BpfMap;
  /** What a resize has not emptied yet. */
  previous(family: Family, table: ConnectionTable): BpfMap | undefined;
  /** Owns both from now on; closes what was there and is neither. */
  put(family: Family, table: ConnectionTable, current: BpfMap, previous?: BpfMap): void;
}

export interface ResizeContext {
  bpffs: string;
  maps: ResizedMaps;
  /** Ends the copying between two batches; the next start finishes it. */
  signal?: AbortSignal;
  /** `loadCopier`, where it is not given. */
  openCopier?: typeof loadCopier;
}

/**
 * Gives a table a map of another size, under traffic; resolves with what was copied. Only one at
 * a time, and none while another one's previous map is there. What it takes is there before the
 * first step. Where it throws, the old map is current, or the new one is and `finishResize` is still
 * to be done.
 */
export async function resizeTable(
  context: ResizeContext,
  family: Family,
  table: ConnectionTable,
  entries: number,
): Promise<CopyResult> {
  const { bpffs, maps } = context;
  using copier = await copierOf(context, family);
  const path = mapPin(bpffs, family, table);
  const outer = maps.map(family, table + OUTER_SUFFIX);
  const old = maps.map(family, table);
  using undo = new DisposableStack();
  const next = undo.use(await createTable(family, table, entries));
  recordLayout(bpffs, next.id, tableLayout(family, table));
  undo.defer(() => forgetLayout(bpffs, next.id));
  pinAnew(next, stagedPin(path));
  undo.defer(() => unpin(stagedPin(path)));
  pinAnew(old, previousPin(path));
  undo.defer(() => unpin(previousPin(path)));
  undo.defer(() => outer.delete(PREVIOUS));
  await outer.switchSlot(PREVIOUS, old);
  await outer.switchSlot(CURRENT, next);
  undo.move();
  maps.put(family, table, next, old);
  renameSync(stagedPin(path), path);
  return await emptyPrevious(context, copier, family, table);
}

/**
 * Copies what the previous map of a table holds, and drops it. Nothing to do where there is none.
 * Throws, with the map left where it is, when entries cannot be copied.
 */
export async function finishResize(
  context: ResizeContext,
  family: Family,
  table: ConnectionTable,
): Promise<CopyResult> {
  if (!context.maps.previous(family, table)) return { copied: 0, skipped: 0, failed: 0 };
  using copier = await copierOf(context, family);
  return await emptyPrevious(context, copier, family, table);
}

async function emptyPrevious(
  { bpffs, maps, signal }: ResizeContext,
  copier: Copier,
  family: Family,
  table: ConnectionTable,
): Promise<CopyResult> {
  const total: CopyResult = { copied: 0, skipped: 0, failed: 0 };
  const previous = maps.previous(family, table);
  if (!previous) return total;
  for (let pass = 1; ; pass++) {
    const { copied, skipped, failed } = await copier.copy(table, previous, signal);
    total.copied += copied;
    if (pass === 1) total.skipped = skipped;
    total.failed = failed;
    if (failed === 0) break;
    if (pass === COPY_PASSES) throw notCopied(family, table, failed);
  }
  await maps.map(family, table + OUTER_SUFFIX).switchSlot(PREVIOUS, undefined);
  unpin(previousPin(mapPin(bpffs, family, table)));
  forgetLayout(bpffs, previous.id);
  maps.put(family, table, maps.map(family, table));
  return total;
}

/**
 * What a start does about a resize that was cut short, once the table's own pin names its current
 * map: where the slots had not been switched, everything is as before; else `previous` is kept.
 */
export function recoverSlots(path: string, outer: BpfMap, current: BpfMap): void {
  const previous = outer.lookupId(PREVIOUS);
  if (previous !== undefined && previous !== current.id) return;
  if (previous !== undefined) outer.delete(PREVIOUS);
  unpin(previousPin(path));
}

function copierOf({ maps, openCopier = loadCopier }: ResizeContext, family: Family) {
  return openCopier(family, (name) => maps.map(family, name));
}

/** A map of a table's own shape and types, in no slot yet. */
export async function createTable(
  family: Family,
  table: ConnectionTable,
  entries: number,
): Promise<BpfMap> {
  using object = openObject(copierPath(family));
  return await object.createMap(table, entries);
}

/** What a resize that was cut short has left there belongs to nobody. */
function pinAnew(map: BpfMap, path: string): void {
  unpin(path);
  map.pin(path);
}

function notCopied(family: Family, table: ConnectionTable, failed: number): SekishoError {
  const message = `${failed} entries of ${family}/${table} could not be copied`;
  return new SekishoError('E_KERNEL', message, {
    hint: 'they stay where they are found; the next resize or start tries again',
  });
}
