import { probeCapabilities } from '../../agent/kernel/capabilities.ts';

export type AttachMode = 'tcx' | 'tc';

/** Ways to attach, each with the reason why it cannot be had here, or false. */
export const ATTACH_MODES: readonly { attach: AttachMode; skip: string | false }[] = [
  { attach: 'tcx', skip: probeCapabilities().tcx ? false : 'the kernel has no TCX' },
  { attach: 'tc', skip: false },
];
