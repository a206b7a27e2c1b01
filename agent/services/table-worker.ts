import { parentPort } from 'node:worker_threads';
import { buildTable, createWorkspace, TABLE_SIZE } from './maglev.ts';

/** Members of several tables, packed, one table after the other. */
export interface BuildRequest {
  packed: readonly Uint32Array[];
  /** Memory for the tables, TABLE_SIZE ids each; it comes back with them. */
  memory: Uint32Array<ArrayBuffer>;
}

const work = createWorkspace();

parentPort?.on('message', ({ packed, memory }: BuildRequest) => {
  for (const [i, members] of packed.entries()) {
    buildTable(members, memory.subarray(i * TABLE_SIZE, (i + 1) * TABLE_SIZE), work);
  }
  parentPort?.postMessage(memory, [memory.buffer]);
});
