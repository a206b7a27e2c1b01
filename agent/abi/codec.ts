import type { Field, FieldKind, Layout } from './layout.ts';

type FieldValue = number | bigint | Uint8Array | readonly bigint[] | readonly number[];
type Scalar = Exclude<FieldKind, 'bytes'>;

const RANGES = {
  u8: [0, 0xff],
  u16: [0, 0xffff],
  be16: [0, 0xffff],
  u32: [0, 0xffffffff],
  be32: [0, 0xffffffff],
  s8: [-0x80, 0x7f],
  s16: [-0x8000, 0x7fff],
  s32: [-0x80000000, 0x7fffffff],
  u64: [0n, 0xffffffffffffffffn],
  s64: [-0x8000000000000000n, 0x7fffffffffffffffn],
} as const;

const entriesOf = new WeakMap<object, Array<[name: string, field: Field]>>();

/** Reads a struct at a byte offset. The result shares no memory with `bytes`. */
export function decode<Value>(layout: Layout<Value>, bytes: Uint8Array, offset = 0): Value {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, layout.size);
  const value: Record<string, FieldValue> = {};
  for (const [name, field] of fieldsOf(layout)) value[name] = readField(view, field);
  return value as Value;
}

/** A new struct; fields that are not given are zero. Throws RangeError for what does not fit. */
export function encode<Value>(layout: Layout<Value>, value: Partial<Value>): Uint8Array {
  const bytes = new Uint8Array(layout.size);
  encodeInto(layout, value, bytes);
  return bytes;
}

/** Writes the given fields of a struct at a byte offset; the others keep their bytes. */
export function encodeInto<Value>(
  layout: Layout<Value>,
  value: Partial<Value>,
  bytes: Uint8Array,
  offset = 0,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, layout.size);
  const given = value as Record<string, FieldValue | undefined>;
  for (const [name, field] of fieldsOf(layout)) {
    const content = given[name];
    if (content !== undefined) writeField(view, name, field, content);
  }
}

function fieldsOf<Value>(layout: Layout<Value>): Array<[string, Field]> {
  let entries = entriesOf.get(layout);
  if (!entries) {
    entries = Object.entries<Field>(layout.fields);
    entriesOf.set(layout, entries);
  }
  return entries;
}

function readField(view: DataView, { offset, size, kind, count }: Field): FieldValue {
  if (kind === 'bytes') {
    return new Uint8Array(view.buffer, view.byteOffset + offset, size).slice();
  }
  if (count === undefined) return readScalar(view, offset, kind);
  const step = size / count;
  const items = Array.from({ length: count }, (_, i) => readScalar(view, offset + i * step, kind));
  return items as number[] | bigint[];
}

function readScalar(view: DataView, offset: number, kind: Scalar): number | bigint {
  switch (kind) {
    case 'u8':
      return view.getUint8(offset);
    case 'u16':
      return view.getUint16(offset, true);
    case 'be16':
      return view.getUint16(offset);
    case 'u32':
      return view.getUint32(offset, true);
    case 'be32':
      return view.getUint32(offset);
    case 'u64':
      return view.getBigUint64(offset, true);
    case 's8':
      return view.getInt8(offset);
    case 's16':
      return view.getInt16(offset, true);
    case 's32':
      return view.getInt32(offset, true);
    case 's64':
      return view.getBigInt64(offset, true);
  }
}

function writeField(view: DataView, name: string, field: Field, value: FieldValue): void {
  const { offset, size, kind, count } = field;
  if (kind === 'bytes') {
    if (!(value instanceof Uint8Array) || value.length !== size) {
      throw new RangeError(`${name} takes ${size} bytes`);
    }
    new Uint8Array(view.buffer, view.byteOffset + offset, size).set(value);
    return;
  }
  const items = (count === undefined ? [value] : value) as readonly unknown[];
  if (!Array.isArray(items) || items.length !== (count ?? 1)) {
    throw new RangeError(`${name} takes ${count} values`);
  }
  const step = size / items.length;
  for (const [i, item] of items.entries()) {
    writeScalar(view, offset + i * step, kind, inRange(name, kind, item));
  }
}

function inRange(name: string, kind: Scalar, value: unknown): number | bigint {
  const [low, high] = RANGES[kind];
  const isNumber = typeof value === 'number' && Number.isInteger(value);
  const fits = typeof low === 'bigint' ? typeof value === 'bigint' : isNumber;
  if (fits && (value as number) >= low && (value as number) <= high) return value as number;
  throw new RangeError(`${name} cannot hold ${value} (${kind})`);
}

function writeScalar(view: DataView, offset: number, kind: Scalar, value: number | bigint): void {
  if (typeof value === 'bigint') {
    view.setBigUint64(offset, value, true);
    return;
  }
  switch (kind) {
    case 'u8':
    case 's8':
      view.setUint8(offset, value);
      break;
    case 'u16':
    case 's16':
      view.setUint16(offset, value, true);
      break;
    case 'be16':
      view.setUint16(offset, value);
      break;
    case 'u32':
    case 's32':
      view.setUint32(offset, value, true);
      break;
    case 'be32':
      view.setUint32(offset, value);
      break;
  }
}
