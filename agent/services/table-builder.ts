import { once } from 'node:events';
import { extname } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { buildTable, createWorkspace, TABLE_SIZE } from './maglev.ts';
import type { TableRow } from './rows.ts';
import type { BuildRequest } from './table-worker.ts';
import type { BuiltTable } from './tables.ts';

/** So few are built without a thread, a few milliseconds each. */
const FEW = 16;
const THREADS = 2;

/** Builds tables, `size` at a time; their memory is used again once the next ones are asked for. */
export type TableBuilder = (rows: readonly TableRow[], size: number) => AsyncIterable<BuiltTable[]>;

/** Builds tables off the event loop where there are many, ahead of whoever takes them. */
export async function* buildTables(
  rows: readonly TableRow[],
  size: number,
): AsyncGenerator<BuiltTable[], void, undefined> {
  if (rows.length === 0) return;
  if (rows.length <= FEW) yield await buildHere(rows);
  else yield* buildElsewhere(rows, size);
}

/** One after the other, with turns for others in between. */
async function buildHere(rows: readonly TableRow[]): Promise<BuiltTable[]> {
  const work = createWorkspace();
  const built: BuiltTable[] = [];
  for (const row of rows) {
    const table = new Uint32Array(TABLE_SIZE);
    buildTable(packedOf(row), table, work);
    built.push(named(row, table));
    await nextTurn();
  }
  return built;
}

async function* buildElsewhere(
  rows: readonly TableRow[],
  size: number,
): AsyncGenerator<BuiltTable[], void, undefined> {
  const batches: TableRow[][] = [];
  for (let at = 0; at < rows.length; at += size) batches.push(rows.slice(at, at + size));
  using stack = new DisposableStack();
  const threads = Array.from({ length: Math.min(THREADS, batches.length) }, () =>
    stack.use(startThread()),
  );
  const built: Promise<Memory>[] = [];
  const ask = (batch: TableRow[] | undefined, memory = newMemory(size)) => {
    const thread = threads[built.length % threads.length];
    if (!batch || !thread) return;
    const next = thread.build(batch.map(packedOf), memory);
    // who waits for it hears of it; nobody may be waiting yet, or any more
    next.catch(() => {});
    built.push(next);
  };
  for (const batch of batches.slice(0, threads.length)) ask(batch);
  let spare: Memory | undefined;
  for (const [i, batch] of batches.entries()) {
    const memory = await built[i]!;
    ask(batches[i + threads.length], spare);
    yield batch.map((row, at) =>
      named(row, memory.subarray(at * TABLE_SIZE, (at + 1) * TABLE_SIZE)),
    );
    spare = memory;
  }
}

type Memory = BuildRequest['memory'];

interface Thread extends Disposable {
  build(packed: Uint32Array[], memory: Memory): Promise<Memory>;
}

/** Asked once more only after it has answered. */
function startThread(): Thread {
  const file = `table-worker${extname(import.meta.filename)}`;
  const worker = new Worker(new URL(file, import.meta.url));
  const failed = new Promise<never>((_, reject) => worker.on('error', reject));
  failed.catch(() => {});
  return {
    async build(packed, memory) {
      const answer = Promise.race([once(worker, 'message'), failed]);
      worker.postMessage({ packed, memory } satisfies BuildRequest, [memory.buffer]);
      const [tables] = await answer;
      return tables;
    },
    [Symbol.dispose]: () => void worker.terminate(),
  };
}

function newMemory(tables: number): Memory {
  return new Uint32Array(tables * TABLE_SIZE);
}

function packedOf({ packed }: TableRow): Uint32Array {
  if (!packed) throw new TypeError('a table that was found cannot be built');
  return packed;
}

function named({ serviceId, scope, digest }: TableRow, ids: Uint32Array): BuiltTable {
  return { serviceId, scope, digest: digest ?? '', ids };
}
