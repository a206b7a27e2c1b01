import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { unpin } from '../kernel/fs.ts';
import { attachTcx, type Direction, openPinnedLink } from '../kernel/link.ts';
import type { BpfProgram } from '../kernel/program.ts';
import { KernelError } from '../lib/errors.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Hook } from '../tables/names.ts';
import type { Logger } from './logger.ts';
import { linkDirectory } from './pins.ts';

export type { Hook } from '../tables/names.ts';

/** Which side of an interface a hook is on. */
export const HOOK_DIRECTIONS: Record<Hook, Direction> = {
  from_endpoint: 'ingress',
  to_endpoint: 'egress',
  from_netdev: 'ingress',
  to_netdev: 'egress',
};

/** In the order of attaching: what translates on the way out stands before what lets in. */
export const DEVICE_HOOKS: readonly Hook[] = ['to_netdev', 'from_netdev'];
export const ENDPOINT_HOOKS: readonly Hook[] = ['to_endpoint', 'from_endpoint'];

export type Programs = Record<Family, Record<Hook, BpfProgram>>;

/** A pinned link. */
export interface Attachment {
  ifindex: number;
  hook: Hook;
  family: Family;
  linkId: number;
  programId: number;
  /** False once its device is gone or someone detached it. */
  attached: boolean;
}

const LINK_NAME = /^(\d+)_(from_endpoint|to_endpoint|from_netdev|to_netdev)_(ipv4|ipv6)$/;
const ENOLINK = 67;

/**
 * Puts the programs of both families onto hooks of an interface, in the order given. Links that
 * are pinned get the new program in one step; dead ones are made again. Throws KernelError
 * (E_NO_INTERFACE when there is no such interface).
 */
export function attachHooks(
  bpffs: string,
  programs: Programs,
  ifindex: number,
  hooks: readonly Hook[],
): void {
  mkdirSync(linkDirectory(bpffs), { recursive: true, mode: 0o700 });
  for (const hook of hooks) {
    for (const family of FAMILIES) {
      const path = linkPin(bpffs, ifindex, hook, family);
      const program = programs[family][hook];
      if (adopt(path, program, ifindex)) continue;
      unpin(path);
      using link = attachTcx(program, ifindex, HOOK_DIRECTIONS[hook]);
      link.pin(path);
    }
  }
}

/** Every pinned link, ordered by interface. */
export function listAttachments(bpffs: string): Attachment[] {
  const found: Attachment[] = [];
  for (const name of linkNames(bpffs)) {
    const [, ifindex, hook, family] = LINK_NAME.exec(name) ?? [];
    using link = openPinnedLink(join(linkDirectory(bpffs), name));
    if (!link || hook === undefined || family === undefined) continue;
    found.push({
      ifindex: Number(ifindex),
      hook: hook as Hook,
      family: family as Family,
      linkId: link.id,
      programId: link.programId,
      attached: link.ifindex !== 0,
    });
  }
  return found.sort((a, b) => a.ifindex - b.ifindex);
}

/**
 * Unpins links that no interface stands behind any more, and those of interfaces that are not
 * to carry the hook. `wanted` tells whether an interface carries a hook.
 */
export function sweepLinks(
  bpffs: string,
  wanted: (ifindex: number, hook: Hook) => boolean,
  logger: Logger,
): void {
  for (const { ifindex, hook, family, attached } of listAttachments(bpffs)) {
    if (attached && wanted(ifindex, hook)) continue;
    unpin(linkPin(bpffs, ifindex, hook, family));
    logger.info({ ifindex, hook, family, attached }, 'link removed');
  }
}

function adopt(path: string, program: BpfProgram, ifindex: number): boolean {
  using link = openPinnedLink(path);
  if (link?.ifindex !== ifindex) return false;
  try {
    link.update(program);
    return true;
  } catch (error) {
    if (error instanceof KernelError && error.errno === ENOLINK) return false;
    throw error;
  }
}

function linkPin(bpffs: string, ifindex: number, hook: Hook, family: Family): string {
  return join(linkDirectory(bpffs), `${ifindex}_${hook}_${family}`);
}

function linkNames(bpffs: string): string[] {
  try {
    return readdirSync(linkDirectory(bpffs)).filter((name) => LINK_NAME.test(name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
