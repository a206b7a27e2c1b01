/** What the workers of this suite run the programs with. */
import { type BpfProgram, programById } from '../../agent/kernel/program.ts';

/** Offsets in `struct __sk_buff`, bytes. */
export const SKB = { size: 192, ingressIfindex: 36, ifindex: 40, cb: 48 };

/** Throws when no program has the id. */
export function loadedProgram(id: number): BpfProgram {
  const program = programById(id);
  if (!program) throw new Error(`no program ${id}`);
  return program;
}

/** A `struct __sk_buff` as a test run takes it. */
export function skbContext(ifindex: number, ingressIfindex: number): Uint8Array {
  const ctx = new Uint8Array(SKB.size);
  const view = new DataView(ctx.buffer);
  view.setUint32(SKB.ifindex, ifindex, true);
  view.setUint32(SKB.ingressIfindex, ingressIfindex, true);
  return ctx;
}
