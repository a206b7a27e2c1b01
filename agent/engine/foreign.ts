import { programById } from '../kernel/program.ts';
import { refuseOtherQdisc } from '../kernel/tc.ts';
import { tcxPrograms } from '../kernel/tcx-query.ts';
import { SekishoError } from '../lib/errors.ts';
import { FAMILIES } from '../lib/ip.ts';
import { DEVICE_HOOKS, HOOK_DIRECTIONS, pinnedProgramIds } from './attach.ts';
import { hasStrayFilter, type Slot } from './attachment.ts';
import type { Interface } from './network.ts';

/**
 * Throws E_CONFLICT when a device carries programs of this project that are not pinned here: an
 * earlier configuration kept its pins elsewhere, and every packet would be translated twice.
 * Looking at programs of others takes CAP_SYS_ADMIN; without it nothing can be told.
 */
export function refuseForeignHooks(bpffs: string, devices: readonly Interface[]): void {
  const own = pinnedProgramIds(bpffs);
  for (const { ifindex, name } of devices) {
    for (const hook of DEVICE_HOOKS) {
      for (const family of FAMILIES) refuseFilter(bpffs, { ifindex, hook, family }, name);
      const others = tcxPrograms(ifindex, HOOK_DIRECTIONS[hook]).filter((id) => !own.has(id));
      if (!others.some((id) => nameOf(id) === hook)) continue;
      throw new SekishoError('E_CONFLICT', `${hook} of another Sekisho is attached to ${name}`, {
        hint: 'its pins are not here: run sekisho cleanup with the configuration it was started with',
      });
    }
  }
}

/** Throws E_CONFLICT when a device has a qdisc that classic TC cannot go beside. */
export function refuseForeignQdiscs(devices: readonly Interface[]): void {
  for (const { ifindex } of devices) refuseOtherQdisc(ifindex);
}

/** A filter goes by its name: whoever attaches takes it over, and its connections are forgotten. */
function refuseFilter(bpffs: string, slot: Slot, name: string): void {
  if (!hasStrayFilter(bpffs, slot)) return;
  throw new SekishoError('E_CONFLICT', `${slot.hook} of another Sekisho is attached to ${name}`, {
    hint: `its pins are not here: run sekisho cleanup with the configuration it was started with, or tc qdisc del dev ${name} clsact`,
  });
}

function nameOf(id: number): string | undefined {
  try {
    using program = programById(id);
    return program?.name;
  } catch (error) {
    if (error instanceof SekishoError && error.code === 'E_PRIVILEGE') return undefined;
    throw error;
  }
}
