import { decode, encode } from '../abi/codec.ts';
import { copy_limit, layouts, table as tableNumber } from '../abi/generated.ts';
import type { BpfMap } from '../kernel/map.ts';
import { openObject } from '../kernel/object.ts';
import { SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import type { ConnectionTable } from '../tables/names.ts';
import { configBytes } from './load-settings.ts';
import { objectPath } from './objects.ts';
import { walk } from './walk.ts';

const KEYS = 'copy_keys';

/** What became of the entries of a previous map. */
export interface CopyResult {
  copied: number;
  /** In the current map already, or deleted meanwhile. */
  skipped: number;
  /** Insertions that the kernel refused. */
  failed: number;
}

/** Fills the current map of a table from its previous one, for one family. */
export interface Copier extends Disposable {
  /**
   * Copies every entry of `previous`, which stands in the table's previous slot. A batch is read
   * while the kernel copies the one before, both off the event loop. Aborted, it ends between two.
   */
  copy(table: ConnectionTable, previous: BpfMap, signal?: AbortSignal): Promise<CopyResult>;
}

/** The file that declares a family's tables and what copies them. */
export function copierPath(family: Family): string {
  return objectPath(`${family}-copy.bpf.o`);
}

/** Loads the copier of one family against open maps. Throws E_LOAD when the kernel refuses it. */
export async function loadCopier(family: Family, open: (name: string) => BpfMap): Promise<Copier> {
  const { tuple, copy_args } = layouts[family];
  using object = openObject(copierPath(family));
  for (const name of object.maps()) {
    if (name !== KEYS && !name.includes('.')) object.reuseMap(name, open(name));
  }
  const settings = { secret: [0n, 0n], hz: 0, interruptible: true };
  object.setRodata(configBytes(family, object.rodata(), settings));
  await object.loadAsync();
  using owned = new DisposableStack();
  const window = owned.use(object.map(KEYS));
  const program = owned.use(object.program('copy'));
  const keyWindow = window.mmap();

  async function copyBatch(table: ConnectionTable, count: number): Promise<CopyResult> {
    const number = tableNumber[`TABLE_${table.toUpperCase()}` as keyof typeof tableNumber];
    const ctx = encode(copy_args, { table: number, count });
    const refused = await program.runAsync(ctx);
    if (refused !== 0) throw new SekishoError('E_INTERNAL', 'the copier refused its keys');
    return decode(copy_args, ctx);
  }

  const loaded = owned.move();
  return {
    async copy(table, previous, signal) {
      const total: CopyResult = { copied: 0, skipped: 0, failed: 0 };
      let running: Promise<void> = Promise.resolve();
      for await (const { keys, count } of walk(previous)) {
        for (let done = 0; done < count; done += copy_limit.COPY_BATCH) {
          const part = Math.min(copy_limit.COPY_BATCH, count - done);
          await running;
          signal?.throwIfAborted();
          keyWindow.set(keys.subarray(done * tuple.size, (done + part) * tuple.size));
          running = copyBatch(table, part).then((result) => add(total, result));
          running.catch(() => {});
        }
      }
      await running;
      return total;
    },
    [Symbol.dispose]: () => loaded.dispose(),
  };
}

function add(total: CopyResult, { copied, skipped, failed }: CopyResult): void {
  total.copied += copied;
  total.skipped += skipped;
  total.failed += failed;
}
