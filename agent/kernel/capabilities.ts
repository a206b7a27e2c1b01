import { accessSync, constants, readFileSync } from 'node:fs';
import { KernelError } from '../lib/errors.ts';
import {
  addImmediate,
  call,
  exit,
  type Instruction,
  move,
  moveImmediate,
  skipIfZero,
  storeU64,
} from './assembler.ts';
import { EFAULT, EINVAL, ENODEV, ENOENT } from './error.ts';
import { libbpf } from './ffi.ts';
import { HANDLE } from './handle.ts';
import { TCX_ATTACH_TYPES } from './link.ts';
import { loadProgram } from './load.ts';
import { createMap } from './map.ts';
import { MAP_FLAGS } from './map-types.ts';
import { jiffiesPerSecond, possibleCpus } from './system.ts';

/** What this kernel can do and this process may do: found out by trying, not by version. */
export interface Capabilities {
  /** TCX links (6.6). */
  tcx: boolean;
  /** Batch operations on maps (5.6). */
  batch: boolean;
  /** The kernel's own type information can be read. */
  btf: boolean;
  /** Programs of type SYSCALL (5.14). */
  syscallPrograms: boolean;
  /** Arrays whose memory user space can map (5.5). */
  mmapableArrays: boolean;
  /** `bpf_jiffies64` (5.6). */
  jiffies64: boolean;
  /** `bpf_redirect_peer` (5.10). */
  redirectPeer: boolean;
  /** `bpf_redirect_neigh` (5.10). */
  redirectNeigh: boolean;
  /** `bpf_skc_lookup_tcp` (5.2). */
  socketLookup: boolean;
  /** BPF_FIB_LOOKUP_SKIP_NEIGH (6.3). */
  fibSkipNeigh: boolean;
  /** BPF_F_IPV6 of `bpf_l4_csum_replace` (6.16). */
  csumIpv6: boolean;
  /** CAP_BPF, or CAP_SYS_ADMIN which contains it. */
  bpfPrivilege: boolean;
  /** CAP_PERFMON, or CAP_SYS_ADMIN: the verifier lets programs compare pointers. */
  perfmonPrivilege: boolean;
  /** CAP_NET_ADMIN. */
  netAdminPrivilege: boolean;
  possibleCpus: number;
  /** Jiffies per second. */
  hz: number;
}

const CAP_NET_ADMIN = 12;
const CAP_SYS_ADMIN = 21;
const CAP_PERFMON = 38;
const CAP_BPF = 39;
const HELPERS = {
  l4CsumReplace: 11,
  fibLookup: 69,
  socketRelease: 86,
  skcLookupTcp: 99,
  jiffies64: 118,
  redirectNeigh: 152,
  redirectPeer: 155,
} as const;
const AN_ETHERNET_FRAME = new Uint8Array(64);

/** Probes once; takes some milliseconds. Without CAP_BPF most answers are no. */
export function probeCapabilities(): Capabilities {
  const held = effectiveCapabilities();
  return {
    tcx: probe(hasTcx),
    batch: probe(hasBatch),
    btf: isReadable('/sys/kernel/btf/vmlinux'),
    syscallPrograms: probe(() => loads([moveImmediate(0, 0), exit()], 'syscall')),
    mmapableArrays: probe(hasMmapableArrays),
    jiffies64: probe(() => loads([call(HELPERS.jiffies64), exit()])),
    redirectPeer: probe(() => loads(redirectTo(HELPERS.redirectPeer))),
    redirectNeigh: probe(() => loads(redirectNeigh())),
    socketLookup: probe(() => loads(lookUpSocket(), 'sched_cls')),
    fibSkipNeigh: probe(() => answer(lookUpRoute()) !== -EINVAL),
    csumIpv6: probe(() => answer(replaceChecksum()) === -EFAULT),
    bpfPrivilege: has(held, CAP_BPF) || has(held, CAP_SYS_ADMIN),
    perfmonPrivilege: has(held, CAP_PERFMON) || has(held, CAP_SYS_ADMIN),
    netAdminPrivilege: has(held, CAP_NET_ADMIN),
    possibleCpus: possibleCpus(),
    hz: jiffiesPerSecond(),
  };
}

/** A kernel that refuses lacks the feature; any other failure is a real one. */
function probe(attempt: () => boolean): boolean {
  try {
    return attempt();
  } catch (error) {
    if (error instanceof KernelError) return false;
    throw error;
  }
}

/** No interface has this index: a kernel with TCX looks for it, an older one does not. */
function hasTcx(): boolean {
  using program = loadProgram('sched_cls', 'probe_tcx', [moveImmediate(0, -1), exit()]);
  const { fd } = program[HANDLE];
  const rc = libbpf().bpf_link_create(fd, 0x7fffffff, TCX_ATTACH_TYPES.ingress, null);
  return rc === -ENODEV;
}

function hasBatch(): boolean {
  using map = createMap({
    type: 'hash',
    name: 'probe_batch',
    keySize: 4,
    valueSize: 4,
    maxEntries: 1,
  });
  const count = Uint32Array.of(1);
  const [to, keys, values] = [new Uint8Array(8), new Uint8Array(4), new Uint8Array(4)];
  const { fd } = map[HANDLE];
  const rc = libbpf().bpf_map_lookup_batch(fd, null, to, keys, values, count, null);
  return rc === -ENOENT;
}

function hasMmapableArrays(): boolean {
  const shape = { type: 'array', name: 'probe_mmap', keySize: 4, valueSize: 8 } as const;
  using map = createMap({ ...shape, maxEntries: 1, flags: MAP_FLAGS.mmapable });
  return map.mmap().length === 8;
}

function loads(code: readonly Instruction[], type: 'sched_cls' | 'syscall' = 'sched_cls'): boolean {
  loadProgram(type, 'probe_load', code).close();
  return true;
}

/** What a program that never passes a packet on returns, as a signed number. */
function answer(code: readonly Instruction[]): number {
  using program = loadProgram('sched_cls', 'probe_run', code);
  return program.testRun({ data: AN_ETHERNET_FRAME }).retval | 0;
}

function redirectTo(helper: number): Instruction[] {
  return [moveImmediate(1, 1), moveImmediate(2, 0), call(helper), exit()];
}

function redirectNeigh(): Instruction[] {
  const noNextHop = [moveImmediate(2, 0), moveImmediate(3, 0), moveImmediate(4, 0)];
  return [moveImmediate(1, 1), ...noNextHop, call(HELPERS.redirectNeigh), exit()];
}

/** A tuple of zeros and an invalid flag: the verifier's opinion is all that is asked for. */
function lookUpSocket(): Instruction[] {
  return [
    ...zeroStack(16),
    move(2, 10),
    addImmediate(2, -16),
    moveImmediate(3, 12),
    moveImmediate(4, -1),
    moveImmediate(5, 0),
    call(HELPERS.skcLookupTcp),
    skipIfZero(0, 2),
    move(1, 0),
    call(HELPERS.socketRelease),
    moveImmediate(0, 0),
    exit(),
  ];
}

/** Flags are checked before the address family, and family 0 is none: -EINVAL means the flag. */
function lookUpRoute(): Instruction[] {
  const BPF_FIB_LOOKUP_SKIP_NEIGH = 4;
  return [
    ...zeroStack(64),
    move(2, 10),
    addImmediate(2, -64),
    moveImmediate(3, 64),
    moveImmediate(4, BPF_FIB_LOOKUP_SKIP_NEIGH),
    call(HELPERS.fibLookup),
    exit(),
  ];
}

/** Flags are checked (-EINVAL) before the offset, which is odd and so wrong (-EFAULT). */
function replaceChecksum(): Instruction[] {
  const BPF_F_IPV6 = 1 << 7;
  return [
    moveImmediate(2, 1),
    moveImmediate(3, 0),
    moveImmediate(4, 0),
    moveImmediate(5, BPF_F_IPV6 | 2),
    call(HELPERS.l4CsumReplace),
    exit(),
  ];
}

/** Clears the last `size` bytes of the stack; spoils r0 only. */
function zeroStack(size: number): Instruction[] {
  const words = Array.from({ length: size / 8 }, (_, i) => storeU64(10, -8 * (i + 1), 0));
  return [moveImmediate(0, 0), ...words];
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function effectiveCapabilities(): bigint {
  const status = readFileSync('/proc/self/status', 'utf8');
  return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
}

function has(held: bigint, capability: number): boolean {
  return ((held >> BigInt(capability)) & 1n) === 1n;
}
