import { SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import { createBackoff } from './backoff.ts';
import { growth, isRising, NO_PRESSURE, PRESSURE, type Pressure } from './growth.ts';
import type { Logger } from './logger.ts';
import type { PassResult } from './pass.ts';
import type { ReliefResult } from './relieve.ts';
import { mostWithin } from './resize-check.ts';
import type { Resizer } from './resizer.ts';
import { PINNED_AS, SIZED_TABLES, type SizedTable } from './sizing.ts';

export interface GrowerOptions {
  resizer: Pick<Resizer, 'resize' | 'capacities'>;
  /** Bytes that all tables may take together. */
  bound: number;
  /** Asks for a pass. */
  again(): void;
  /** Milliseconds of any clock. */
  now(): number;
  logger: Logger;
}

/** Hears what passes and reliefs find. */
export interface Grower {
  onPass(result: Pick<PassResult, 'family' | 'table' | 'alive' | 'capacity'>): void;
  onRelief(
    result: Pick<ReliefResult, 'family' | 'table' | 'capacity' | 'before' | 'deleted'>,
  ): void;
}

/**
 * Lets tables grow that passes find under lasting pressure. It asks for the passes that are missing
 * to be sure of it, rather than wait for those that come anyway. One that could not grow is left
 * alone for a while, which gets longer each time, or until it has another size.
 */
export function createGrower({ resizer, bound, again, now, logger }: GrowerOptions): Grower {
  const pressures = new Map<string, Pressure>();
  const growing = new Set<string>();
  const backoff = createBackoff(now);
  const isLeftAlone = (path: string, capacity: number) =>
    growing.has(path) || backoff.rests(path, capacity);

  function grow(family: Family, key: SizedTable, entries: number, capacity: number): void {
    const table = PINNED_AS[key];
    const path = `${family}/${table}`;
    growing.add(path);
    resizer
      .resize({ table: key, families: [family], entries, reason: 'growth' })
      .catch((error: unknown) => {
        const reason = error instanceof SekishoError ? error.message : `${error}`;
        const againIn = backoff.failed(path, capacity) / 1000;
        logger.error({ family, table, entries, reason, againIn }, 'table could not grow');
      })
      .finally(() => growing.delete(path));
  }

  return {
    onPass({ family, table, alive, capacity }) {
      const key = SIZED_TABLES.find((name) => PINNED_AS[name] === table);
      const path = `${family}/${table}`;
      if (!key || isLeftAlone(path, capacity)) return;
      const most = mostWithin(bound, resizer.capacities(), family, key);
      const sight = { alive, capacity, at: now(), most };
      const { growth: decision, pressure } = growth(sight, pressures.get(path) ?? NO_PRESSURE);
      pressures.set(path, pressure);
      const fields = { family, table, alive, capacity };
      if (decision.kind === 'stuck') {
        logger.warn({ ...fields, most }, 'table is full and cannot grow: maps.maxMemoryRatio');
      } else if (decision.kind === 'grow') {
        logger.info({ ...fields, entries: decision.entries }, 'table grows');
        grow(family, key, decision.entries, capacity);
      } else if (isRising(pressure)) again();
    },
    onRelief({ family, table, capacity, before, deleted }) {
      const path = `${family}/${table}`;
      const left = Object.values(deleted).reduce((rest, count) => rest - count, before);
      if (left <= capacity * PRESSURE || isLeftAlone(path, capacity)) return;
      if (!pressures.get(path)?.told) again();
    },
  };
}
