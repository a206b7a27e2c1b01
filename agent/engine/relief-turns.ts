import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { createGuard, type Guard } from './guard.ts';
import type { Logger } from './logger.ts';
import type { CollectedTable } from './pass.ts';
import { FILL } from './relief.ts';
import { createRests } from './relief-rest.ts';
import { type ReliefResult, type ReliefTools, relieveFamily } from './relieve.ts';
import { createSerial } from './serial.ts';

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
  /** Milliseconds of any clock. */
  clock?(): number;
}

/** Reliefs one after the other; several requests for one that waits are one. */
export interface Relief {
  ask(family: Family): void;
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  /** None begins any more; resolves when the one under way has ended. */
  stop(): Promise<void>;
}

export function createRelief(parts: ReliefParts): Relief {
  const relieve = reliever(parts);
  const turn = createSerial();
  const waiting = new Set<Family>();
  let stopped = false;
  return {
    ask(family) {
      if (waiting.has(family) || stopped) return;
      waiting.add(family);
      turn(async () => {
        waiting.delete(family);
        if (!stopped) await relieve(family);
      }).catch((error) => parts.logger.error({ err: error, family }, 'pressure relief failed'));
    },
    exclusive: turn,
    async stop() {
      stopped = true;
      await turn(() => {});
    },
  };
}

/**
 * Relieves those tables of a family that are too full and do not rest. The guard never rests, but
 * where connections that must stay take too much by themselves: kept off them all, LRU would evict
 * each new one before it is answered, while one that was idle comes back with its next packet.
 */
function reliever({ tables, fill, tools, onRelief, clock = () => performance.now() }: ReliefParts) {
  const ownTables = (family: Family) => tables().filter((table) => table.family === family);
  const guards = {
    ipv4: createGuard(() => ownTables('ipv4'), tools),
    ipv6: createGuard(() => ownTables('ipv6'), tools),
  };
  const rests = createRests(tools, clock);
  const mayRelieve = (table: CollectedTable) =>
    fill.share(table) > FILL.high && !rests.isResting(table);
  const isOverfull = (table: CollectedTable) =>
    fill.share(table) > FILL.low && rests.isOverfull(table);

  return async (family: Family): Promise<void> => {
    const own = ownTables(family);
    if (!own.some((table) => fill.share(table) > FILL.watch)) return;
    const guard: Guard = {
      keep: async (fresh) => {
        if (!own.some(isOverfull)) await guards[family].keep(fresh);
      },
    };
    await guard.keep(true);
    if (!own.some(mayRelieve)) return;
    const created = new Map(own.map(({ table }) => [table, tools.turnover(family, table).created]));
    for (const result of await relieveFamily(own, mayRelieve, guard, tools)) {
      const { table, before, capacity, evicted } = result;
      fill.counted(result, evicted);
      if (before <= FILL.high * capacity) continue;
      rests.relieved(result, created.get(table) ?? 0);
      onRelief(result);
    }
  };
}
