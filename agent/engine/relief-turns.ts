import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { createGuard } from './guard.ts';
import type { Logger } from './logger.ts';
import type { CollectedTable } from './pass.ts';
import { FILL } from './relief.ts';
import { type ReliefResult, type ReliefTools, relieveFamily } from './relieve.ts';
import { createSerial } from './serial.ts';

/** After a relief that found nobody who may go, that many times its duration is let pass. */
const REST = 10;
const LEAST_REST_MS = 1000;

/** What is known of how full tables are, without counting them. */
export interface Fill {
  /**
   * Entries by capacity, by two counters and what LRU had taken when the table was last counted:
   * never too low.
   */
  share(table: CollectedTable): number;
  /** A table was counted. */
  counted(table: { family: Family; table: ConnectionTable }, evicted: number): void;
}

export function createFill({ turnover }: Pick<ReliefTools, 'turnover'>): Fill {
  const evictions = new Map<string, number>();
  return {
    share({ family, table, capacity }) {
      const { created, deleted } = turnover(family, table);
      const evicted = evictions.get(`${family}/${table}`) ?? 0;
      return (created - deleted - evicted) / capacity;
    },
    counted: ({ family, table }, evicted) => void evictions.set(`${family}/${table}`, evicted),
  };
}

export interface ReliefParts {
  tables(): readonly CollectedTable[];
  fill: Fill;
  tools: ReliefTools;
  logger: Logger;
  /** After every table that was found above its mark. */
  onRelief(result: ReliefResult): void;
}

/** Reliefs one after the other; several requests for one that waits are one. */
export interface Relief {
  ask(family: Family): void;
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  /** None begins any more; resolves when the one under way has ended. */
  stop(): Promise<void>;
}

export function createRelief({ tables, fill, tools, logger, onRelief }: ReliefParts): Relief {
  const ownTables = (family: Family) => tables().filter((table) => table.family === family);
  const isHigh = (table: CollectedTable) => fill.share(table) > FILL.high;
  const guards = {
    ipv4: createGuard(() => ownTables('ipv4'), tools),
    ipv6: createGuard(() => ownTables('ipv6'), tools),
  };
  const turn = createSerial();
  const waiting = new Set<Family>();
  const restUntil = new Map<Family, number>();
  let stopped = false;

  async function relieve(family: Family): Promise<void> {
    if (stopped || performance.now() < (restUntil.get(family) ?? 0)) return;
    const own = ownTables(family);
    if (!own.some((table) => fill.share(table) > FILL.watch)) return;
    await guards[family].keep(true);
    if (!own.some(isHigh)) return;
    const begun = performance.now();
    const results = await relieveFamily(own, isHigh, guards[family], tools);
    for (const result of results) fill.counted(result, result.evicted);
    const full = results.filter(({ before, capacity }) => before > FILL.high * capacity);
    full.forEach(onRelief);
    if (full.length === 0 || full.some(({ deleted }) => Object.keys(deleted).length > 0)) return;
    const took = performance.now() - begun;
    restUntil.set(family, performance.now() + Math.max(LEAST_REST_MS, REST * took));
  }

  return {
    ask(family) {
      if (waiting.has(family) || stopped) return;
      waiting.add(family);
      turn(() => {
        waiting.delete(family);
        return relieve(family);
      }).catch((error) => logger.error({ err: error, family }, 'pressure relief failed'));
    },
    exclusive: turn,
    async stop() {
      stopped = true;
      await turn(() => {});
    },
  };
}
