/** Writes a number as the kernel has it in a key or a value of four bytes. */
export function writeIndex(index: number, bytes: Uint8Array, offset: number): void {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, index, true);
}

export function readIndex(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
}

/** Four bytes of their own. */
export function indexKey(index: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(index).buffer);
}
