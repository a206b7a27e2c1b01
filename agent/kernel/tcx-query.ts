import { check, EINVAL, ENODEV } from './error.ts';
import { libbpf } from './ffi.ts';
import { type Direction, TCX_ATTACH_TYPES } from './link.ts';
import { Opts } from './opts.ts';

/** More than one hook can hold (BPF_MPROG_MAX is 64). */
const ROOM = 64;

/**
 * Ids of all programs on a TCX hook, first to run first, whoever attached them. None where there
 * is no such interface, or no TCX.
 */
export function tcxPrograms(ifindex: number, direction: Direction): number[] {
  const ids = new Uint8Array(ROOM * 4);
  const opts = new Opts(40).pointer(16, ids).u32(24, ROOM);
  const rc = libbpf().bpf_prog_query_opts(ifindex, TCX_ATTACH_TYPES[direction], opts.bytes);
  if (rc === -EINVAL || rc === -ENODEV) return [];
  check(rc, () => `list the programs on ${direction} of interface ${ifindex}`);
  const view = new DataView(ids.buffer);
  return Array.from({ length: opts.getU32(24) }, (_, i) => view.getUint32(i * 4, true));
}
