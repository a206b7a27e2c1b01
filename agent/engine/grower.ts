import { SekishoError } from '../lib/errors.ts';
import { growth, NO_PRESSURE, type Pressure } from './growth.ts';
import type { Logger } from './logger.ts';
import type { PassResult } from './pass.ts';
import { mostWithin } from './resize-check.ts';
import type { Resizer } from './resizer.ts';
import { PINNED_AS, SIZED_TABLES } from './sizing.ts';

export interface GrowerOptions {
  resizer: Pick<Resizer, 'resize' | 'capacities'>;
  /** Bytes that all tables may take together. */
  bound: number;
  /** Milliseconds of any clock. */
  now(): number;
  logger: Logger;
}

/** Lets tables grow that passes find under lasting pressure. Called after every table's pass. */
export function createGrower({ resizer, bound, now, logger }: GrowerOptions) {
  const pressures = new Map<string, Pressure>();
  const growing = new Set<string>();

  return ({ family, table, alive, capacity }: PassResult): void => {
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
    }
    if (decision.kind !== 'grow') return;
    const { entries } = decision;
    logger.info({ ...fields, entries }, 'table grows');
    growing.add(path);
    resizer
      .resize({ table: key, families: [family], entries, reason: 'growth' })
      .catch((error: unknown) => {
        const reason = error instanceof SekishoError ? error.message : `${error}`;
        logger.error({ ...fields, entries, reason }, 'table could not grow');
      })
      .finally(() => growing.delete(path));
  };
}
