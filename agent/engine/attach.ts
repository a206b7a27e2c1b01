import { mkdirSync, readdirSync } from 'node:fs';
import type { BpfProgram } from '../kernel/program.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Hook } from '../tables/names.ts';
import {
  type AttachMode,
  type Attachment,
  clearSlot,
  isFilterHere,
  putProgram,
  readSlot,
  type Slot,
  settleSlot,
  slotPin,
  slotProgramIds,
} from './attachment.ts';
import type { Logger } from './logger.ts';
import { linkDirectory } from './pins.ts';

export type { Hook } from '../tables/names.ts';
export { type AttachMode, type Attachment, HOOK_DIRECTIONS } from './attachment.ts';

/** In the order of attaching: what translates on the way out stands before what lets in. */
export const DEVICE_HOOKS: readonly Hook[] = ['to_netdev', 'from_netdev'];
export const ENDPOINT_HOOKS: readonly Hook[] = ['to_endpoint', 'from_endpoint'];

/** The other way round: what redirects past the stack goes before what translates. */
const DETACH_ORDER: readonly Hook[] = [...DEVICE_HOOKS, ...ENDPOINT_HOOKS].reverse();

export type Programs = Record<Family, Record<Hook, BpfProgram>>;

/** The programs, and how they are put onto hooks. */
export interface AttachOptions {
  bpffs: string;
  programs: Programs;
  attach: AttachMode;
}

const PIN = /^(\d+)_(from_endpoint|to_endpoint|from_netdev|to_netdev)_(ipv4|ipv6)(_tcx|_tc)?$/;

/**
 * Puts the programs of both families onto hooks of an interface, in the order given. Throws
 * KernelError (E_NO_INTERFACE when there is no such interface).
 */
export function attachHooks(
  { bpffs, programs, attach }: AttachOptions,
  ifindex: number,
  hooks: readonly Hook[],
): void {
  mkdirSync(linkDirectory(bpffs), { recursive: true, mode: 0o700 });
  for (const hook of hooks) {
    for (const family of FAMILIES) {
      putProgram(bpffs, { ifindex, hook, family }, programs[family][hook], attach);
    }
  }
}

/** Ids of all programs that the pins stand for. */
export function pinnedProgramIds(bpffs: string): Set<number> {
  const pinned = [...pinnedSlots(bpffs), ...stagedSlots(bpffs)];
  return new Set(pinned.flatMap((slot) => slotProgramIds(bpffs, slot)));
}

/** Everything that is pinned, ordered by interface. */
export function listAttachments(bpffs: string): Attachment[] {
  return pinnedSlots(bpffs)
    .map((slot) => readSlot(bpffs, slot))
    .filter((attachment) => attachment !== undefined)
    .sort((a, b) => a.ifindex - b.ifindex);
}

/**
 * Removes attachments that no interface stands behind any more, and those of interfaces that are
 * not to carry the hook. `wanted` tells whether an interface carries a hook.
 */
export function sweepAttachments(
  bpffs: string,
  wanted: (ifindex: number, hook: Hook) => boolean,
  logger: Logger,
): void {
  for (const slot of stagedSlots(bpffs)) settleSlot(bpffs, slot);
  for (const { ifindex, hook, family, attached } of inDetachOrder(listAttachments(bpffs))) {
    if (attached && wanted(ifindex, hook)) continue;
    clearSlot(bpffs, { ifindex, hook, family });
    logger.info({ ifindex, hook, family, attached }, 'attachment removed');
  }
}

/**
 * Whether there are filters, and none of them is in this network namespace: they are in another
 * one, whose interfaces only are found from there, or gone.
 */
export function areFiltersElsewhere(bpffs: string): boolean {
  const found = pinnedSlots(bpffs).map((slot) => isFilterHere(bpffs, slot));
  return found.includes(false) && !found.includes(true);
}

/**
 * Detaches and unpins everything, `to_netdev` last: while any program hands packets to a device,
 * they are translated there. The paths of the pins, and whether something was attached. */
export function detachAll(bpffs: string): { path: string; detached: boolean }[] {
  for (const slot of stagedSlots(bpffs)) settleSlot(bpffs, slot);
  return inDetachOrder(pinnedSlots(bpffs)).map((slot) => ({
    path: slotPin(bpffs, slot),
    detached: clearSlot(bpffs, slot),
  }));
}

function inDetachOrder<S extends Slot>(slots: readonly S[]): S[] {
  return slots.toSorted((a, b) => DETACH_ORDER.indexOf(a.hook) - DETACH_ORDER.indexOf(b.hook));
}

function pinnedSlots(bpffs: string): Slot[] {
  return slots(bpffs, false);
}

/** Slots whose change a crash may have cut short. */
function stagedSlots(bpffs: string): Slot[] {
  return slots(bpffs, true);
}

function slots(bpffs: string, staged: boolean): Slot[] {
  return pinNames(bpffs).flatMap((name) => {
    const [, ifindex, hook, family, suffix] = PIN.exec(name) ?? [];
    if (hook === undefined || family === undefined) return [];
    if ((suffix !== undefined) !== staged) return [];
    return [{ ifindex: Number(ifindex), hook: hook as Hook, family: family as Family }];
  });
}

/** Names in the directory of the pins. */
export function pinNames(bpffs: string): string[] {
  try {
    return readdirSync(linkDirectory(bpffs));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
