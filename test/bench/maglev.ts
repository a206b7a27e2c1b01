/**
 * Lookup tables for services of a thousand backends: what one takes, and what many take beside an
 * event loop. As a program it prints the figures as JSON.
 */
import {
  buildTable,
  createWorkspace,
  hashBackend,
  packMembers,
  TABLE_SIZE,
} from '../../agent/services/maglev.ts';
import { buildTables } from '../../agent/services/table-builder.ts';
import { TABLE_BATCH } from '../../agent/tables/backend-tables.ts';
import { watchEventLoop } from '../lib/event-loop.ts';
import { type Summary, summarise } from './statistics.ts';

const BACKENDS = 1000;
const ROUNDS = 25;
const TABLES = 500;

export interface MaglevFigures {
  slots: number;
  backends: number;
  /** One table, the first one among them. */
  milliseconds: Summary;
  /** So many at a time, in threads. */
  tables: number;
  seconds: number;
  /** Longest time that the event loop stood still meanwhile. */
  longestGapMs: number;
}

async function measureMaglev(): Promise<MaglevFigures> {
  const work = createWorkspace();
  const table = new Uint32Array(TABLE_SIZE);
  const times = Array.from({ length: ROUNDS }, (_, round) => {
    const packed = packedService(round);
    const begun = performance.now();
    buildTable(packed, table, work);
    return performance.now() - begun;
  });
  const many = await measureMany();
  const [slots, backends, milliseconds] = [TABLE_SIZE, BACKENDS, summarise(times)];
  return { slots, backends, milliseconds, tables: TABLES, ...many };
}

async function measureMany() {
  const rows = Array.from({ length: TABLES }, (_, service) => ({
    ...{ serviceId: service + 1, scope: 0, digest: `${service}`, packed: packedService(service) },
  }));
  const loop = watchEventLoop();
  const begun = performance.now();
  let built = 0;
  for await (const batch of buildTables(rows, TABLE_BATCH)) built += batch.length;
  const seconds = (performance.now() - begun) / 1000;
  const { longestGapMs } = loop.stop();
  if (built !== TABLES) throw new Error(`${built} of ${TABLES} tables were built`);
  return { seconds, longestGapMs };
}

/** Backends of one service, other ones for each. */
function packedService(service: number): Uint32Array<ArrayBuffer> {
  const members = Array.from({ length: BACKENDS }, (_, i) => {
    const address = Uint8Array.of(10, service, i >> 8, i & 0xff);
    return { id: i + 1, hash: hashBackend(address, 8000, 6), weight: 1 };
  });
  return packMembers(members);
}

process.stdout.write(JSON.stringify(await measureMaglev()));
