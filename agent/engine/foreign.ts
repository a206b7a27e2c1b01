import { programById } from '../kernel/program.ts';
import { tcxPrograms } from '../kernel/tcx-query.ts';
import { SekishoError } from '../lib/errors.ts';
import { DEVICE_HOOKS, HOOK_DIRECTIONS, listAttachments } from './attach.ts';
import type { Interface } from './network.ts';

/**
 * Throws E_CONFLICT when a device carries programs of this project that are not pinned here: an
 * earlier configuration kept its pins elsewhere, and every packet would be translated twice.
 * Looking at programs of others takes CAP_SYS_ADMIN; without it nothing can be told.
 */
export function refuseForeignHooks(bpffs: string, devices: readonly Interface[]): void {
  const own = new Set(listAttachments(bpffs).map(({ programId }) => programId));
  for (const { ifindex, name } of devices) {
    for (const hook of DEVICE_HOOKS) {
      const others = tcxPrograms(ifindex, HOOK_DIRECTIONS[hook]).filter((id) => !own.has(id));
      if (!others.some((id) => nameOf(id) === hook)) continue;
      throw new SekishoError('E_CONFLICT', `${hook} of another Sekisho is attached to ${name}`, {
        hint: 'its pins are not here: run sekisho cleanup with the configuration it was started with',
      });
    }
  }
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
