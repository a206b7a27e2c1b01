/** BPF instructions by hand, enough of them for probes. */
export type Instruction = readonly [
  opcode: number,
  registers: number,
  offset: number,
  immediate: number,
];

/** dst = immediate */
export const moveImmediate = (dst: number, value: number): Instruction => [0xb7, dst, 0, value];
/** dst = src, 64 bits */
export const move = (dst: number, src: number): Instruction => [0xbf, (src << 4) | dst, 0, 0];
/** dst += immediate */
export const addImmediate = (dst: number, value: number): Instruction => [0x07, dst, 0, value];
/** *(u64 *)(dst + offset) = src */
export const storeU64 = (dst: number, offset: number, src: number): Instruction => [
  0x7b,
  (src << 4) | dst,
  offset,
  0,
];
/** dst = *(u32 *)(src + offset) */
export const loadU32 = (dst: number, src: number, offset: number): Instruction => [
  0x61,
  (src << 4) | dst,
  offset,
  0,
];
/** *(u32 *)(dst + offset) = src */
export const storeU32 = (dst: number, offset: number, src: number): Instruction => [
  0x63,
  (src << 4) | dst,
  offset,
  0,
];
/** Skips `count` instructions when a register is zero. */
export const skipIfZero = (register: number, count: number): Instruction => [
  0x15,
  register,
  count,
  0,
];
/** r0 = helper(r1 … r5) */
export const call = (helper: number): Instruction => [0x85, 0, 0, helper];
/** return r0 */
export const exit = (): Instruction => [0x95, 0, 0, 0];

/** Eight bytes an instruction, little endian. */
export function assemble(instructions: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [i, [opcode, registers, offset, immediate]] of instructions.entries()) {
    view.setUint8(i * 8, opcode);
    view.setUint8(i * 8 + 1, registers);
    view.setInt16(i * 8 + 2, offset, true);
    view.setInt32(i * 8 + 4, immediate, true);
  }
  return bytes;
}
