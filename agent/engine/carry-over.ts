import { renameSync } from 'node:fs';
import { unpin } from '../kernel/fs.ts';
import type { BpfMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import type { Logger } from './logger.ts';
import { addEntries, copyCounters, copyEntries } from './migrate.ts';
import { type FoundTable, isOuter } from './pinned-tables.ts';
import { previousPin, stagedPin } from './pins.ts';

/** A table and the map that goes on for it. */
export interface LoadedTable extends FoundTable {
  family: Family;
  map: BpfMap;
}

/**
 * The new maps get what the old ones hold, while the old programs go on with those: what these
 * change afterwards is lost, so the new programs must be attached at once. Where some of those
 * are on their hooks already, what their maps hold is newer and stays. Of a table whose resize was
 * cut short both maps move, and what the current one holds is newer.
 */
export async function carryOver(replaced: readonly LoadedTable[], logger: Logger): Promise<void> {
  for (const { family, name, source, previous, plan, target, map } of replaced) {
    if (!source) continue;
    const fields = { family, table: name };
    if (plan?.kind !== 'carry') {
      logger.info(fields, 'table has another layout and is made anew');
      continue;
    }
    const migration = { from: source, to: map, runs: plan.runs };
    if (name !== 'counters') {
      const earlier = previous && { ...migration, from: previous };
      const moved = target
        ? (await addEntries(migration)) + (earlier ? await addEntries(earlier) : 0)
        : (earlier ? await copyEntries(earlier) : 0) + (await copyEntries(migration));
      logger.info({ ...fields, moved, lost: plan.lost }, 'table moves to another layout');
      continue;
    }
    if (!target) copyCounters(migration);
    logger.info({ ...fields, lost: plan.lost }, 'counters move; those lost start at zero');
  }
}

/**
 * Once the new programs are attached: fetches what the old ones added in the last moment, and puts
 * the new maps in their pins. Outer maps first: where they lead is current, whichever pins a crash
 * leaves.
 */
export async function endCarryOver(
  replaced: readonly LoadedTable[],
  logger: Logger,
): Promise<void> {
  for (const { family, name, source, previous, plan, map } of replaced) {
    if (!source || plan?.kind !== 'carry' || name === 'counters') continue;
    let moved = await addEntries({ from: source, to: map, runs: plan.runs });
    if (previous) moved += await addEntries({ from: previous, to: map, runs: plan.runs });
    if (moved > 0) logger.info({ family, table: name, moved }, 'late entries moved');
  }
  const outerFirst = replaced.toSorted((a, b) => Number(isOuter(b.name)) - Number(isOuter(a.name)));
  for (const { path } of outerFirst) {
    renameSync(stagedPin(path), path);
    unpin(previousPin(path));
  }
  logger.info({ tables: replaced.length }, 'tables of another layout replaced');
}
