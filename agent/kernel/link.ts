import { KernelError } from '../lib/errors.ts';
import { check, EEXIST, ENODEV } from './error.ts';
import { type Fd, libbpf } from './ffi.ts';
import { HANDLE, Handle, Owned, openPinned, readInfo } from './handle.ts';
import type { BpfProgram } from './program.ts';

export type Direction = 'ingress' | 'egress';

/** Numbers of `enum bpf_attach_type`. */
export const TCX_ATTACH_TYPES = { ingress: 46, egress: 47 } as const;

const LINK_INFO_SIZE = 48;

/** One program on one hook. Unless pinned, closing it detaches the program. */
export class BpfLink extends Owned {
  readonly id: number;

  /** Takes the descriptor over. */
  constructor(fd: Fd) {
    super(new Handle(fd, 'link'));
    this.id = readInfo(fd, LINK_INFO_SIZE).getUint32(4, true);
  }

  /** Id of the program attached now. */
  get programId(): number {
    return readInfo(this[HANDLE].fd, LINK_INFO_SIZE).getUint32(8, true);
  }

  /** 0 once the device is gone or someone detached the link. */
  get ifindex(): number {
    return readInfo(this[HANDLE].fd, LINK_INFO_SIZE).getUint32(16, true);
  }

  /** Undefined for a link that is no TCX link. */
  get direction(): Direction | undefined {
    const type = readInfo(this[HANDLE].fd, LINK_INFO_SIZE).getUint32(20, true);
    if (type === TCX_ATTACH_TYPES.ingress) return 'ingress';
    return type === TCX_ATTACH_TYPES.egress ? 'egress' : undefined;
  }

  /** Swaps the program; no packet meets an empty hook. The same program again is no error. */
  update(program: BpfProgram): void {
    const rc = libbpf().bpf_link_update(this[HANDLE].fd, program[HANDLE].fd, null);
    if (rc === -EEXIST && this.programId === program.id) return;
    check(rc, () => `put program ${program.name} onto link ${this.id}`);
  }

  pin(path: string): void {
    check(libbpf().bpf_obj_pin(this[HANDLE].fd, path), () => `pin a link at ${path}`);
  }

  /** Takes the program off the hook, pinned or not. */
  detach(): void {
    check(libbpf().bpf_link_detach(this[HANDLE].fd), () => `detach link ${this.id}`);
  }
}

/** Attaches behind the programs that are there. Throws E_NO_INTERFACE. */
export function attachTcx(program: BpfProgram, ifindex: number, direction: Direction): BpfLink {
  const type = TCX_ATTACH_TYPES[direction];
  const rc = libbpf().bpf_link_create(program[HANDLE].fd, ifindex, type, null);
  if (rc === -ENODEV) throw noInterface(ifindex, program.name);
  return new BpfLink(
    check(rc, () => `attach ${program.name} to ${direction} of interface ${ifindex}`) as Fd,
  );
}

/** Undefined where nothing is pinned. Throws E_LAYOUT when something else is. */
export function openPinnedLink(path: string): BpfLink | undefined {
  const pinned = openPinned(path, 'link');
  return pinned && new BpfLink(pinned.fd);
}

/** What attaching to an interface that is not there throws. */
export function noInterface(ifindex: number, program: string): KernelError {
  return new KernelError({
    code: 'E_NO_INTERFACE',
    operation: `attach ${program}`,
    errno: ENODEV,
    errnoName: 'ENODEV',
    reason: `no interface has index ${ifindex}`,
  });
}
