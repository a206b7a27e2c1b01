import { SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
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
 * to be sure of it, rather than wait for those that come anyway.
 */
export function createGrower({ resizer, bound, again, now, logger }: GrowerOptions): Grower {
  const pressures = new Map<string, Pressure>();
  const growing = new Set<string>();

  function grow(family: Family, key: SizedTable, entries: number): void {
    const path = `${family}/${PINNED_AS[key]}`;
    growing.add(path);
    resizer
      .resize({ table: key, families: [family], entries, reason: 'growth' })
      .catch((error: unknown) => {
        const reason = error instanceof SekishoError ? error.message : `${error}`;
        logger.error({ family, table: PINNED_AS[key], entries, reason }, 'table could not grow');
      })
      .finally(() => growing.delete(path));
  }

  return {
    onPass({ family, table, alive, capacity }) {
      const key = SIZED_TABLES.find((name) => PINNED_AS[name] === table);
      const path = `${family}/${table}`;
      if (!key || growing.has(path)) return;
      const most = mostWithin(bound, resizer.capacities(), family, key);
      const sight = { alive, capacity, at: now(), most };
      const { growth: decision, pressure } = growth(sight, pressures.get(path) ?? NO_PRESSURE);
      pressures.set(path, pressure);
      const fields = { family, table, alive, capacity };
      if (decision.kind === 'stuck') {
        logger.warn({ ...fields, most }, 'table is full and cannot grow: maps.maxMemoryRatio');
      } else if (decision.kind === 'grow') {
        logger.info({ ...fields, entries: decision.entries }, 'table grows');
        grow(family, key, decision.entries);
      } else if (isRising(pressure)) again();
    },
    onRelief({ family, table, capacity, before, deleted }) {
      const path = `${family}/${table}`;
      const left = Object.values(deleted).reduce((rest, count) => rest - count, before);
      if (left <= capacity * PRESSURE || growing.has(path)) return;
      if (!pressures.get(path)?.told) again();
    },
  };
}
