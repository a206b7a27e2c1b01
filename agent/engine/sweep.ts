import { type ErrorCode, SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import type { Logger } from './logger.ts';
import { type CollectedTable, collectTable, type PassResult, type PassTools } from './pass.ts';
import type { Expired } from './schedule.ts';
import { readSocketPorts, type SocketPorts } from './socket-ports.ts';

export interface SweepOptions extends PassTools {
  /** The tables as they are now; asked at every pass, since a resize replaces them. */
  tables(): readonly CollectedTable[];
  logger: Logger;
  /** After every table. */
  onPass(result: PassResult): void;
  /** After a table whose pass failed. */
  onFailure(table: CollectedTable, error: unknown): void;
}

/** A table that could not be gone through, and why. */
export interface PassFailure {
  family: Family;
  table: ConnectionTable;
  code: ErrorCode;
  message: string;
}

/** A pass over all tables: each is in one of the two. */
export interface Sweep {
  passes: PassResult[];
  failures: PassFailure[];
}

/** Goes through all tables; what fails is written down, and the others are gone through. */
export async function sweepTables(options: SweepOptions): Promise<Sweep> {
  const swept: Sweep = { passes: [], failures: [] };
  let sockets: Promise<SocketPorts> | undefined;
  const { socketPorts: read = readSocketPorts } = options;
  const socketPorts = () => (sockets ??= read());
  for (const table of options.tables()) {
    try {
      const result = await collectTable(table, { ...options, socketPorts });
      swept.passes.push(result);
      options.onPass(result);
    } catch (error) {
      const { family, table: name } = table;
      options.logger.error({ err: error, family, table: name }, 'garbage collection failed');
      const code = error instanceof SekishoError ? error.code : 'E_INTERNAL';
      const message = error instanceof Error ? error.message : `${error}`;
      swept.failures.push({ family, table: name, code, message });
      options.onFailure(table, error);
    }
  }
  return swept;
}

/** By table, the share of its capacity that had expired; NAT entries went with connections, too. */
export function expiredShares({ passes }: Sweep): Expired {
  return new Map(
    passes.map(({ family, table, deleted, capacity }) => {
      const others = table === 'snat' ? passes.filter((other) => other.family === family) : [];
      const along = others.reduce((sum, { natDeleted }) => sum + natDeleted, 0);
      return [`${family}/${table}`, (deleted + along) / capacity];
    }),
  );
}
