import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { unpin } from '../kernel/fs.ts';
import { attachTcx, BpfLink, type Direction } from '../kernel/link.ts';
import { openPinnedAttachment } from '../kernel/pinned.ts';
import { BpfProgram } from '../kernel/program.ts';
import { attachTc, detachTc, listFilters, type TcHook } from '../kernel/tc.ts';
import { tcxPrograms } from '../kernel/tcx-query.ts';
import { KernelError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import type { Hook } from '../tables/names.ts';
import { linkDirectory } from './pins.ts';

/** How programs are put onto hooks: TCX links, or filters of classic TC. */
export type AttachMode = 'tcx' | 'tc';

/** The place of one program: a family's, on a hook of an interface. */
export interface Slot {
  ifindex: number;
  hook: Hook;
  family: Family;
}

/** What stands in a slot. */
export interface Attachment extends Slot {
  attach: AttachMode;
  programId: number;
  /** False once its device is gone or someone detached it. */
  attached: boolean;
}

/** Which side of an interface a hook is on. */
export const HOOK_DIRECTIONS: Record<Hook, Direction> = {
  from_endpoint: 'ingress',
  to_endpoint: 'egress',
  from_netdev: 'ingress',
  to_netdev: 'egress',
};

const ENOLINK = 67;

/** Where a slot is pinned: its TCX link, or the program of its TC filter. */
export function slotPin(bpffs: string, slot: Slot): string {
  return join(linkDirectory(bpffs), slotName(slot));
}

/** The last part of it. */
export function slotName({ ifindex, hook, family }: Slot): string {
  return `${ifindex}_${hook}_${family}`;
}

/** Where the successor of a pin is put until it takes the pin's place. */
export function stagedPin(path: string, mode: AttachMode): string {
  return `${path}_${mode}`;
}

/**
 * Puts a program into a slot. What stands there gives way in one step: no packet meets an empty
 * hook. From one mode to the other the new one is attached before the old one goes; a packet may
 * then meet both. A filter never stands without a pin, so a crash leaves nothing unknown. Throws
 * KernelError (E_NO_INTERFACE when there is no such interface).
 */
export function putProgram(bpffs: string, slot: Slot, program: BpfProgram, mode: AttachMode): void {
  const path = slotPin(bpffs, slot);
  using pinned = openPinnedAttachment(path);
  if (mode === 'tcx') putTcx(path, slot, program, pinned);
  else putTc(path, slot, program, pinned);
}

function putTcx(
  path: string,
  slot: Slot,
  program: BpfProgram,
  pinned: BpfLink | BpfProgram | undefined,
): void {
  if (pinned instanceof BpfLink && updated(pinned, slot, program)) return;
  using link = attachTcx(program, slot.ifindex, HOOK_DIRECTIONS[slot.hook]);
  const staged = stagedPin(path, 'tcx');
  unpin(staged);
  link.pin(staged);
  if (pinned instanceof BpfProgram) detachTc(tcHook(slot), filterName(slot));
  renameSync(staged, path);
}

function updated(link: BpfLink, { ifindex }: Slot, program: BpfProgram): boolean {
  if (link.ifindex !== ifindex) return false;
  try {
    link.update(program);
    return true;
  } catch (error) {
    if (error instanceof KernelError && error.errno === ENOLINK) return false;
    throw error;
  }
}

function putTc(
  path: string,
  slot: Slot,
  program: BpfProgram,
  pinned: BpfLink | BpfProgram | undefined,
): void {
  const isMarked = pinned instanceof BpfProgram && pinned.id === program.id;
  if (isMarked && findFilter(slot)?.programId === program.id) return;
  const staged = stagedPin(path, 'tc');
  unpin(staged);
  program.pin(staged);
  try {
    attachTc(program, tcHook(slot), filterName(slot));
  } catch (error) {
    unpin(staged);
    throw error;
  }
  renameSync(staged, path);
}

/** Undefined when nothing is pinned for the slot. */
export function readSlot(bpffs: string, slot: Slot): Attachment | undefined {
  using pinned = openPinnedAttachment(slotPin(bpffs, slot));
  if (pinned === undefined) return undefined;
  if (pinned instanceof BpfLink) {
    const { programId, ifindex } = pinned;
    return { ...slot, attach: 'tcx', programId, attached: ifindex === slot.ifindex };
  }
  const filter = findFilter(slot);
  const programId = filter?.programId ?? pinned.id;
  return { ...slot, attach: 'tc', programId, attached: filter !== undefined };
}

/** Ids of all programs of one mode that are on a hook, whoever attached them. */
export function programsAt(mode: AttachMode, ifindex: number, hook: Hook): number[] {
  const direction = HOOK_DIRECTIONS[hook];
  if (mode === 'tcx') return tcxPrograms(ifindex, direction);
  const ids = listFilters({ ifindex, direction }).map((filter) => filter.programId);
  return ids.filter((id) => id !== undefined);
}

/** Detaches and unpins. False when nothing was attached any more. */
export function clearSlot(bpffs: string, slot: Slot): boolean {
  const path = slotPin(bpffs, slot);
  const wasAttached = detachPinned(path, slot);
  unpin(path);
  return wasAttached;
}

/** Whether a slot's filter is on its hook here; undefined where a link is, or is to be. */
export function isFilterHere(bpffs: string, slot: Slot): boolean | undefined {
  const path = slotPin(bpffs, slot);
  using pinned = openPinnedAttachment(path);
  using successor = openPinnedAttachment(stagedPin(path, 'tcx'));
  if (successor) return undefined;
  return pinned instanceof BpfProgram ? findFilter(slot)?.programId === pinned.id : undefined;
}

/** Completes a change of a slot that a crash cut short, or removes what it left. */
export function settleSlot(bpffs: string, slot: Slot): void {
  const path = slotPin(bpffs, slot);
  const staged = stagedPin(path, 'tc');
  using pinned = openPinnedAttachment(path);
  using successor = openPinnedAttachment(staged);
  if (pinned instanceof BpfProgram && successor?.id === findFilter(slot)?.programId) {
    if (successor) renameSync(staged, path);
  } else {
    detachPinned(staged, slot);
  }
  unpin(staged);
  unpin(stagedPin(path, 'tcx'));
}

/** A filter of another program is another namespace's, whose interface has the same index. */
function detachPinned(path: string, slot: Slot): boolean {
  using pinned = openPinnedAttachment(path);
  if (pinned === undefined) return false;
  if (pinned instanceof BpfProgram) {
    if (findFilter(slot)?.programId !== pinned.id) return false;
    return detachTc(tcHook(slot), filterName(slot));
  }
  const isAttached = pinned.ifindex !== 0;
  if (isAttached) pinned.detach();
  return isAttached;
}

/** Ids of the programs that the pins of a slot stand for, staged ones included. */
export function slotProgramIds(bpffs: string, slot: Slot): number[] {
  const path = slotPin(bpffs, slot);
  return [path, stagedPin(path, 'tcx'), stagedPin(path, 'tc')].flatMap((pin) => {
    using pinned = openPinnedAttachment(pin);
    if (pinned === undefined) return [];
    return [pinned instanceof BpfLink ? pinned.programId : pinned.id];
  });
}

/** Is there a filter of ours that no pin here stands for? */
export function hasStrayFilter(bpffs: string, slot: Slot): boolean {
  const programId = findFilter(slot)?.programId;
  return programId !== undefined && !slotProgramIds(bpffs, slot).includes(programId);
}

function tcHook({ ifindex, hook }: Slot): TcHook {
  return { ifindex, direction: HOOK_DIRECTIONS[hook] };
}

/** What tells our filters from those of others. */
function filterName({ hook, family }: Slot): string {
  return `sekisho_${hook}_${family}`;
}

function findFilter(slot: Slot) {
  const name = filterName(slot);
  return listFilters(tcHook(slot)).find((filter) => filter.name === name);
}
