import { once } from 'node:events';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { NewBackendTable } from '../tables/backend-tables.ts';
import { buildTable, createWorkspace, TABLE_SIZE } from './maglev.ts';
import type { TableRow } from './rows.ts';
import type { BuildRequest } from './table-worker.ts';

/** So few are built at once, in a few milliseconds, without a thread. */
const FEW = 16;
const THREADS = 2;

/** Builds tables, `size` at a time; their memory is used again once the next ones are asked for. */
export type TableBuilder = (
  rows: readonly TableRow[],
  size: number,
) => AsyncIterable<NewBackendTable[]>;

/** Builds tables off the event loop where there are many, ahead of whoever takes them. */
export async function* buildTables(
  rows: readonly TableRow[],
  size: number,
): AsyncGenerator<NewBackendTable[], void, undefined> {
  if (rows.length === 0) return;
  if (rows.length <= FEW) {
    yield rows.map((row) => named(row, buildHere(row)));
    return;
  }
  yield* buildElsewhere(rows, size);
}

function buildHere(row: TableRow): Uint32Array {
  const table = new Uint32Array(TABLE_SIZE);
  buildTable(packedOf(row), table, createWorkspace());
  return table;
}

async function* buildElsewhere(
  rows: readonly TableRow[],
  size: number,
): AsyncGenerator<NewBackendTable[], void, undefined> {
  const batches: TableRow[][] = [];
  for (let at = 0; at < rows.length; at += size) batches.push(rows.slice(at, at + size));
  using stack = new DisposableStack();
  const threads = Array.from({ length: Math.min(THREADS, batches.length) }, () =>
    stack.use(startThread()),
  );
  const built: Promise<Memory>[] = [];
  const ask = (batch: TableRow[] | undefined, memory = newMemory(size)) => {
    const thread = threads[built.length % threads.length];
    if (batch && thread) built.push(thread.build(batch.map(packedOf), memory));
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
  return {
    async build(packed, memory) {
      const answer = once(worker, 'message');
      answer.catch(() => {});
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

function named({ serviceId, scope, name }: TableRow, ids: Uint32Array): NewBackendTable {
  return { serviceId, scope, name: name ?? '', ids };
}
