import { openPinned } from './handle.ts';
import { BpfLink } from './link.ts';
import { BpfProgram } from './program.ts';

/** What stands for an attachment under a path: a link, or the program of a TC filter. */
export function openPinnedAttachment(path: string): BpfLink | BpfProgram | undefined {
  const pinned = openPinned(path, 'link', 'prog');
  if (pinned === undefined) return undefined;
  return pinned.kind === 'link' ? new BpfLink(pinned.fd) : new BpfProgram(pinned.fd);
}
