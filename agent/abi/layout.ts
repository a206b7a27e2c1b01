/** How a field's bytes become a value: numbers up to 32 bits, bigint for 64, bytes as they are. */
export type FieldKind =
  | 'u8'
  | 'u16'
  | 'u32'
  | 'u64'
  | 's8'
  | 's16'
  | 's32'
  | 's64'
  /** Network order in memory, a host number as a value. */
  | 'be16'
  | 'be32'
  /** An IP address, or an array of bytes: network order both ways. */
  | 'bytes';

export interface Field {
  /** Bytes from the start of the struct. */
  readonly offset: number;
  /** Bytes of the whole field. */
  readonly size: number;
  readonly kind: FieldKind;
  /** An array of so many; never with `bytes`. */
  readonly count?: number;
}

/** A struct of bpf/abi.h as one family has it. Padding has no field. */
export interface Layout<Value = unknown> {
  readonly size: number;
  readonly fields: { readonly [Name in keyof Value]-?: Field };
}
