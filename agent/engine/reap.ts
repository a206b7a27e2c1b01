import { decode, encode } from '../abi/codec.ts';
import {
  layouts,
  type ReapArgs,
  reap_limit,
  reap_mode,
  table as tableNumber,
} from '../abi/generated.ts';
import { type BpfMap, openPinnedMap } from '../kernel/map.ts';
import { openObject } from '../kernel/object.ts';
import type { BpfProgram } from '../kernel/program.ts';
import { SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import { readNodeState } from '../tables/clock.ts';
import type { ConnectionTable } from '../tables/names.ts';
import type { ClockSample } from './clock.ts';
import { addReap } from './key-group.ts';
import { configBytes } from './load-settings.ts';
import { objectPath } from './objects.ts';
import { mapPin } from './pins.ts';
import { createSerial } from './serial.ts';

const KEYS = 'reap_keys';
const NUMBERS: Record<ConnectionTable, number> = {
  ct_tcp: tableNumber.TABLE_CT_TCP,
  ct_any: tableNumber.TABLE_CT_ANY,
  snat: tableNumber.TABLE_SNAT,
};

const MODES = {
  expired: reap_mode.REAP_EXPIRED,
  forced: reap_mode.REAP_FORCED,
  leaving: reap_mode.REAP_LEAVING,
  relief: reap_mode.REAP_RELIEF,
  complete: reap_mode.REAP_COMPLETE,
  claimed: reap_mode.REAP_CLAIMED,
} as const;

/**
 * What to do with the keys, after another look at each: delete what has `expired`, with what of
 * its NAT pair has; delete it in any case (`forced`), or unless it is closing (`leaving`); delete
 * those of some classes and mark the others as used (`relief`); bring back the other half of live
 * NAT entries, or both of live connections (`complete`); delete those that were found claimed, and
 * still are (`claimed`).
 */
export type ReapMode = keyof typeof MODES;

export interface ReapOptions {
  /** `expired` by default. */
  mode?: ReapMode;
  /** Relief: bits of `flow_class`; in `snat`, of the connections that the entries are of. */
  classes?: number;
  /** Relief of `snat`: bits of `nat_class`, for entries without a connection. */
  orphans?: number;
  /** Relief: an answered flow may go when it expires by then; seconds of the datapath's clock. */
  idleUntil?: number;
}

/** What became of the keys handed over. `now` is in seconds of the datapath's clock. */
export interface ReapResult {
  deleted: number;
  /** Alive again, gone already, or not to be touched. */
  skipped: number;
  /** NAT entries deleted along with their connection or their other half. */
  natDeleted: number;
  /** Deletions that the kernel refused. */
  failed: number;
  /** NAT halves brought back, or connections whose pair was. */
  completed: number;
  now: number;
}

/** The kernel side of garbage collection, for one family. */
export interface Reaper extends Disposable {
  /**
   * Takes `count` keys (struct tuple, back to back) of a table. Any count; calls are done one
   * after the other, off the event loop, and copy their keys when it is their turn.
   */
  reap(
    table: ConnectionTable,
    keys: Uint8Array,
    count: number,
    options?: ReapOptions,
  ): Promise<ReapResult>;
  readClock(): ClockSample;
}

/**
 * Loads the reaper of one family against maps that are open, or those that are pinned. Throws
 * E_NO_MAPS when there are none, E_LOAD when the kernel refuses the programs.
 */
export function loadReaper(bpffs: string, family: Family, maps?: (name: string) => BpfMap): Reaper {
  const node = readNodeState(bpffs);
  using object = openObject(objectPath(`${family}-reap.bpf.o`));
  using pinned = new DisposableStack();
  const open = maps ?? ((name: string) => pinned.use(openTable(bpffs, family, name)));
  for (const name of object.maps()) {
    if (name !== KEYS && !name.includes('.')) object.reuseMap(name, open(name));
  }
  const settings = { secret: node.secret, hz: node.hz, interruptible: true };
  object.setRodata(configBytes(family, object.rodata(), settings));
  object.load();
  return createReaper(family, {
    keys: object.map(KEYS),
    reap: object.program('reap'),
    clock: object.program('read_clock'),
  });
}

interface ReapParts {
  keys: BpfMap;
  reap: BpfProgram;
  clock: BpfProgram;
}

function createReaper(family: Family, { keys: keyMap, reap, clock }: ReapParts): Reaper {
  const { tuple, reap_args, clock_sample } = layouts[family];
  const window = keyMap.mmap();
  const serial = createSerial();

  async function reapBatch(keys: Uint8Array, args: Partial<ReapArgs>): Promise<ReapResult> {
    window.set(keys);
    const ctx = encode(reap_args, args);
    const refused = await reap.runAsync(ctx);
    if (refused !== 0) throw new SekishoError('E_INTERNAL', 'the reaper refused its keys');
    const { nat_deleted: natDeleted, ...counted } = decode(reap_args, ctx);
    const { now, deleted, skipped, failed, completed } = counted;
    return { now, deleted, skipped, natDeleted, failed, completed };
  }

  return {
    async reap(
      table,
      keys,
      count,
      { mode = 'expired', classes = 0, orphans = 0, idleUntil = 0 } = {},
    ) {
      const total = { deleted: 0, skipped: 0, natDeleted: 0, failed: 0, completed: 0, now: 0 };
      const rules = { mode: MODES[mode], classes, orphans, idle_until: idleUntil };
      const base = { table: NUMBERS[table], ...rules };
      for (let done = 0; done < count; done += reap_limit.REAP_BATCH) {
        const part = Math.min(reap_limit.REAP_BATCH, count - done);
        const slice = keys.subarray(done * tuple.size, (done + part) * tuple.size);
        addReap(total, await serial(() => reapBatch(slice, { ...base, count: part })));
      }
      return total;
    },
    readClock() {
      const ctx = new Uint8Array(clock_sample.size);
      clock.run(ctx);
      const { jiffies, monotonic_ns } = decode(clock_sample, ctx);
      return { jiffies, monotonicNs: monotonic_ns };
    },
    [Symbol.dispose]() {
      for (const owned of [keyMap, reap, clock]) owned[Symbol.dispose]();
    },
  };
}

function openTable(bpffs: string, family: Family, name: string): BpfMap {
  const path = mapPin(bpffs, family, name);
  const map = openPinnedMap(path);
  if (map) return map;
  const hint = 'start the agent once';
  throw new SekishoError('E_NO_MAPS', `no map is pinned at ${path}`, { hint });
}
