import { assemble, type Instruction } from './assembler.ts';
import { check } from './error.ts';
import { type Fd, libbpf } from './ffi.ts';
import { Opts } from './opts.ts';
import { BpfProgram } from './program.ts';
import { relevantLines } from './verifier-log.ts';

const PROGRAM_TYPES = { sched_cls: 3, syscall: 31 } as const;
const SLEEPABLE = 1 << 4;
/** Some helpers are for GPL-compatible programs only. */
const LICENSE = 'GPL';

/** Loads instructions without any file. Throws KernelError, the verifier's words in `detail`. */
export function loadProgram(
  type: keyof typeof PROGRAM_TYPES,
  name: string,
  instructions: readonly Instruction[],
): BpfProgram {
  const code = assemble(instructions);
  const log = new Uint8Array(64 * 1024);
  const opts = new Opts(104)
    .u32(20, type === 'syscall' ? SLEEPABLE : 0)
    .u32(92, log.length)
    .pointer(96, log);
  const rc = libbpf().bpf_prog_load(
    PROGRAM_TYPES[type],
    name,
    LICENSE,
    code,
    instructions.length,
    opts.bytes,
  );
  check(rc, () => `load program ${name}`, relevantLines(log));
  return new BpfProgram(rc as Fd, name);
}
