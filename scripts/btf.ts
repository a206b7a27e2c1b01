/** One type of a BTF section. Modifiers (const, volatile, …) and typedefs lead on to `type`. */
export type BtfType =
  | { kind: 'int'; name: string; size: number; signed: boolean }
  | { kind: 'array'; name: string; type: number; count: number }
  | { kind: 'struct' | 'union'; name: string; size: number; members: BtfMember[] }
  | { kind: 'enum'; name: string; size: number; values: Array<[name: string, value: number]> }
  | { kind: 'typedef' | 'modifier'; name: string; type: number }
  | { kind: 'other'; name: string };

export interface BtfMember {
  name: string;
  type: number;
  /** From the start of the struct. */
  bitOffset: number;
  /** 0: not a bit field. */
  bitSize: number;
}

const MAGIC = 0xeb9f;
const KIND = {
  int: 1,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  fwd: 7,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  funcProto: 13,
  variable: 14,
  dataSection: 15,
  declarationTag: 17,
  typeTag: 18,
  enum64: 19,
} as const;
const MODIFIERS: readonly number[] = [KIND.volatile, KIND.const, KIND.restrict, KIND.typeTag];

/** What a type's header says: 12 bytes in front of what its kind adds. */
interface Header {
  name: string;
  kind: number;
  flag: boolean;
  length: number;
  /** Size in bytes or id of another type, by kind. */
  sizeOrType: number;
}

/** The types of a BTF section by id. Id 0, void, is undefined. Throws on a foreign format. */
export function parseBtf(section: Uint8Array): Array<BtfType | undefined> {
  const view = viewOf(section);
  if (view.getUint16(0, true) !== MAGIC) throw new Error('no little-endian BTF');
  const headerSize = view.getUint32(4, true);
  const typesAt = headerSize + view.getUint32(8, true);
  const typesEnd = typesAt + view.getUint32(12, true);
  const stringsAt = headerSize + view.getUint32(16, true);
  const nameAt = (offset: number) => readString(section, stringsAt + offset);

  const types: Array<BtfType | undefined> = [undefined];
  for (let at = typesAt; at < typesEnd; ) {
    const header = readHeader(view, at, nameAt);
    types.push(readType(view, at + 12, header, nameAt));
    at += 12 + bodySize(header);
  }
  return types;
}

/** The bytes of a named section of a 64-bit little-endian ELF file; undefined without it. */
export function elfSection(file: Uint8Array, name: string): Uint8Array | undefined {
  const view = viewOf(file);
  if (view.getUint32(0) !== 0x7f454c46 || view.getUint16(4) !== 0x0201) {
    throw new Error('no 64-bit little-endian ELF file');
  }
  const tableAt = Number(view.getBigUint64(40, true));
  const entrySize = view.getUint16(58, true);
  const sections = Array.from({ length: view.getUint16(60, true) }, (_, i) => {
    const at = tableAt + i * entrySize;
    const offset = Number(view.getBigUint64(at + 24, true));
    const size = Number(view.getBigUint64(at + 32, true));
    return { nameOffset: view.getUint32(at, true), bytes: file.subarray(offset, offset + size) };
  });
  const names = sections[view.getUint16(62, true)]?.bytes ?? new Uint8Array();
  return sections.find((section) => readString(names, section.nameOffset) === name)?.bytes;
}

function readHeader(view: DataView, at: number, nameAt: (offset: number) => string): Header {
  const info = view.getUint32(at + 4, true);
  return {
    name: nameAt(view.getUint32(at, true)),
    kind: (info >>> 24) & 0x1f,
    flag: info >>> 31 === 1,
    length: info & 0xffff,
    sizeOrType: view.getUint32(at + 8, true),
  };
}

function bodySize({ kind, length }: Header): number {
  switch (kind) {
    case KIND.int:
    case KIND.variable:
    case KIND.declarationTag:
      return 4;
    case KIND.array:
      return 12;
    case KIND.struct:
    case KIND.union:
    case KIND.dataSection:
    case KIND.enum64:
      return 12 * length;
    case KIND.enum:
    case KIND.funcProto:
      return 8 * length;
    default:
      return 0;
  }
}

function readType(
  view: DataView,
  at: number,
  header: Header,
  nameAt: (offset: number) => string,
): BtfType {
  const { name, kind, sizeOrType } = header;
  switch (kind) {
    case KIND.int: {
      const signed = ((view.getUint32(at, true) >>> 24) & 1) === 1;
      return { kind: 'int', name, size: sizeOrType, signed };
    }
    case KIND.array: {
      const [type, count] = [view.getUint32(at, true), view.getUint32(at + 8, true)];
      return { kind: 'array', name, type, count };
    }
    case KIND.struct:
    case KIND.union: {
      const members = readMembers(view, at, header, nameAt);
      return { kind: kind === KIND.struct ? 'struct' : 'union', name, size: sizeOrType, members };
    }
    case KIND.enum:
      return { kind: 'enum', name, size: sizeOrType, values: readValues(view, at, header, nameAt) };
    case KIND.typedef:
      return { kind: 'typedef', name, type: sizeOrType };
    default:
      return MODIFIERS.includes(kind)
        ? { kind: 'modifier', name, type: sizeOrType }
        : { kind: 'other', name };
  }
}

function readMembers(
  view: DataView,
  start: number,
  { flag, length }: Header,
  nameAt: (offset: number) => string,
): BtfMember[] {
  return Array.from({ length }, (_, i) => {
    const at = start + i * 12;
    const offset = view.getUint32(at + 8, true);
    return {
      name: nameAt(view.getUint32(at, true)),
      type: view.getUint32(at + 4, true),
      bitOffset: flag ? offset & 0xffffff : offset,
      bitSize: flag ? offset >>> 24 : 0,
    };
  });
}

function readValues(
  view: DataView,
  start: number,
  { flag, length }: Header,
  nameAt: (offset: number) => string,
): Array<[string, number]> {
  return Array.from({ length }, (_, i) => {
    const at = start + i * 8;
    const value = flag ? view.getInt32(at + 4, true) : view.getUint32(at + 4, true);
    return [nameAt(view.getUint32(at, true)), value];
  });
}

function readString(bytes: Uint8Array, at: number): string {
  return Buffer.from(bytes.subarray(at, bytes.indexOf(0, at))).toString('latin1');
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
