import { check, ENOENT } from './error.ts';
import { callAsync, type Fd, libbpf } from './ffi.ts';
import { HANDLE, Handle, Owned, readInfo, readName } from './handle.ts';
import { Opts } from './opts.ts';

const PROG_INFO_SIZE = 232;
/** Room for what a program may put in front of or behind a packet. */
const GROWTH = 1024;

export interface TestRunInput {
  /** The packet, from its Ethernet header; at least 14 bytes. */
  data?: Uint8Array;
  /** `struct __sk_buff`, 192 bytes; fields the kernel does not accept must be zero. */
  ctx?: Uint8Array;
  /** Runs in a row, each on the packet that the one before left; 1 by default. */
  repeat?: number;
}

export interface TestRunResult {
  /** What the program returned, as an unsigned number. */
  retval: number;
  /** Mean of one run. */
  durationNs: number;
  /** The packet afterwards. */
  data: Uint8Array;
  /** The context afterwards; empty when none went in. */
  ctx: Uint8Array;
}

/** One loaded BPF program. */
export class BpfProgram extends Owned {
  readonly name: string;
  readonly id: number;
  /** Digest of the instructions, 16 hex digits: the same code has the same tag. */
  readonly tag: string;

  /** Takes the descriptor over. */
  constructor(fd: Fd, name?: string) {
    const info = readInfo(fd, PROG_INFO_SIZE);
    const kernelName = readName(info, 64);
    super(new Handle(fd, `program ${name ?? kernelName}`));
    this.name = name ?? kernelName;
    this.id = info.getUint32(4, true);
    this.tag = Buffer.from(info.buffer, 8, 8).toString('hex');
  }

  /** Runs the program on a packet, without any interface. */
  testRun({ data, ctx, repeat = 1 }: TestRunInput): TestRunResult {
    const opts = new Opts(80).u32(60, repeat);
    const dataOut = new Uint8Array(data ? data.length + GROWTH : 0);
    const ctxOut = new Uint8Array(ctx?.length ?? 0);
    if (data) {
      opts.pointer(8, data).u32(24, data.length);
      opts.pointer(16, dataOut).u32(28, dataOut.length);
    }
    if (ctx) {
      opts.pointer(32, ctx).u32(48, ctx.length);
      opts.pointer(40, ctxOut).u32(52, ctxOut.length);
    }
    const rc = libbpf().bpf_prog_test_run_opts(this[HANDLE].fd, opts.bytes);
    check(rc, () => `run program ${this.name}`);
    return {
      retval: opts.getU32(56),
      durationNs: opts.getU32(64),
      data: dataOut.subarray(0, opts.getU32(28)),
      ctx: ctxOut.subarray(0, opts.getU32(52)),
    };
  }

  /**
   * Runs a program of type SYSCALL and returns its result as an unsigned number. What the
   * program wrote into its context stands in `ctx` afterwards.
   */
  run(ctx: Uint8Array): number {
    const opts = syscallOpts(ctx);
    const rc = libbpf().bpf_prog_test_run_opts(this[HANDLE].fd, opts.bytes);
    check(rc, () => `run program ${this.name}`);
    return opts.getU32(56);
  }

  /** Like `run`, off the event loop; `ctx` must be left alone until it has finished. */
  async runAsync(ctx: Uint8Array): Promise<number> {
    const opts = syscallOpts(ctx);
    const { bpf_prog_test_run_opts: run } = libbpf();
    const rc = await this[HANDLE].during((fd) => callAsync(run, fd, opts.bytes));
    check(rc, () => `run program ${this.name}`);
    return opts.getU32(56);
  }

  pin(path: string): void {
    const rc = libbpf().bpf_obj_pin(this[HANDLE].fd, path);
    check(rc, () => `pin program ${this.name} at ${path}`);
  }
}

/** Undefined when no program has this id any more. */
export function programById(id: number): BpfProgram | undefined {
  const rc = libbpf().bpf_prog_get_fd_by_id(id);
  return rc === -ENOENT ? undefined : new BpfProgram(check(rc, `open program ${id}`) as Fd);
}

function syscallOpts(ctx: Uint8Array): Opts {
  return new Opts(80).pointer(32, ctx).u32(48, ctx.length);
}
