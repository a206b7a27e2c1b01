/**
 * Writes agent/abi/generated.ts from the BTF of build/bpf/{ipv4,ipv6}-abi.bpf.o: the structs
 * and enums of bpf/abi.h. `--check` writes nothing and exits 1 when the file is out of date.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Field, FieldKind } from '../agent/abi/layout.ts';
import { type BtfType, elfSection, parseBtf } from './btf.ts';

type Types = ReadonlyArray<BtfType | undefined>;
type Struct = Extract<BtfType, { kind: 'struct' | 'union' }>;
type Enum = Extract<BtfType, { kind: 'enum' }>;
type Layouts = Map<string, { size: number; fields: Map<string, Field> }>;

const ROOT = join(import.meta.dirname, '..');
const OUTPUT = 'agent/abi/generated.ts';
const FAMILIES = ['ipv4', 'ipv6'] as const;
/** Bytes wherever it stands; it gets no layout of its own. */
const ADDRESS = 'ip_addr';
const PADDING = /^pad\d*$/;

/** The text of the generated file, from the BTF sections of both families. */
export function generateAbi(sections: Record<'ipv4' | 'ipv6', Uint8Array>): string {
  const types = { ipv4: parseBtf(sections.ipv4), ipv6: parseBtf(sections.ipv6) };
  const layouts = { ipv4: layoutsOf(types.ipv4), ipv6: layoutsOf(types.ipv6) };
  const enums = types.ipv4.filter((type): type is Enum => type?.kind === 'enum' && !!type.name);
  const shapes = emitInterfaces(layouts.ipv4);
  if (shapes !== emitInterfaces(layouts.ipv6)) {
    throw new Error('the structs of the two families differ in more than their sizes');
  }
  return [
    '// Generated from bpf/abi.h by scripts/generate-abi.ts (`make generate`). Do not edit.',
    "import type { Layout } from './layout.ts';",
    '',
    ...enums.sort(byName).map(emitEnum),
    shapes,
    emitLayoutsType(layouts.ipv4),
    'export const layouts: { readonly ipv4: Layouts; readonly ipv6: Layouts } = {',
    ...FAMILIES.map((family) => emitLayouts(family, layouts[family])),
    '};',
    '',
  ].join('\n');
}

function layoutsOf(types: Types): Layouts {
  const structs = types.filter(
    (type): type is Struct => type?.kind === 'struct' && !!type.name && type.name !== ADDRESS,
  );
  return new Map(
    structs.sort(byName).map((struct) => {
      const members = struct.members.filter(({ name }) => !PADDING.test(name));
      const fields = members.map((member): [string, Field] => {
        const where = `${struct.name}.${member.name}`;
        if (member.bitSize > 0) throw new Error(`${where} is a bit field`);
        return [member.name, fieldOf(types, member.type, member.bitOffset / 8, where)];
      });
      return [struct.name, { size: struct.size, fields: new Map(fields) }];
    }),
  );
}

function fieldOf(types: Types, id: number, offset: number, where: string): Field {
  const type = types[id];
  switch (type?.kind) {
    case 'typedef':
      if (type.name === '__be16') return { offset, size: 2, kind: 'be16' };
      if (type.name === '__be32') return { offset, size: 4, kind: 'be32' };
      return fieldOf(types, type.type, offset, where);
    case 'modifier':
      return fieldOf(types, type.type, offset, where);
    case 'int': {
      const kind = `${type.signed ? 's' : 'u'}${type.size * 8}` as FieldKind;
      return { offset, size: type.size, kind };
    }
    case 'enum':
      return { offset, size: type.size, kind: `u${type.size * 8}` as FieldKind };
    case 'array': {
      const { kind, size } = fieldOf(types, type.type, offset, where);
      if (kind === 'u8') return { offset, size: type.count, kind: 'bytes' };
      return { offset, size: size * type.count, kind, count: type.count };
    }
    case 'struct':
      if (type.name === ADDRESS) return { offset, size: type.size, kind: 'bytes' };
  }
  throw new Error(`${where} is of a type that the generator does not know`);
}

function emitEnum({ name, values }: Enum): string {
  const lines = values.map(([key, value]) => `  ${key}: ${value},`);
  return [`export const ${name} = {`, ...lines, '} as const;', ''].join('\n');
}

function emitInterfaces(layouts: Layouts): string {
  const interfaces = [...layouts].map(([name, { fields }]) => {
    const lines = [...fields].map(([field, layout]) => `  ${field}: ${typeOf(layout)};`);
    return [`export interface ${pascal(name)} {`, ...lines, '}', ''].join('\n');
  });
  return interfaces.join('\n');
}

function typeOf({ kind, count }: Field): string {
  if (kind === 'bytes') return 'Uint8Array';
  const scalar = kind.endsWith('64') ? 'bigint' : 'number';
  return count === undefined ? scalar : `${scalar}[]`;
}

function emitLayoutsType(layouts: Layouts): string {
  const lines = [...layouts.keys()].map((name) => `  readonly ${name}: Layout<${pascal(name)}>;`);
  return ['export interface Layouts {', ...lines, '}', ''].join('\n');
}

function emitLayouts(family: string, layouts: Layouts): string {
  const structs = [...layouts].flatMap(([name, { size, fields }]) => [
    `    ${name}: {`,
    `      size: ${size},`,
    '      fields: {',
    ...[...fields].map(([field, layout]) => `        ${field}: ${emitField(layout)},`),
    '      },',
    '    },',
  ]);
  return [`  ${family}: {`, ...structs, '  },'].join('\n');
}

function emitField({ offset, size, kind, count }: Field): string {
  const array = count === undefined ? '' : `, count: ${count}`;
  return `{ offset: ${offset}, size: ${size}, kind: '${kind}'${array} }`;
}

function pascal(name: string): string {
  return name.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function byName(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : 1;
}

function readSection(family: string): Uint8Array {
  const path = `build/bpf/${family}-abi.bpf.o`;
  const section = elfSection(readFileSync(join(ROOT, path)), '.BTF');
  if (!section) throw new Error(`${path} carries no BTF: compile it with -g`);
  return section;
}

function main(): void {
  const text = generateAbi({ ipv4: readSection('ipv4'), ipv6: readSection('ipv6') });
  const output = join(ROOT, OUTPUT);
  if (!process.argv.includes('--check')) {
    writeFileSync(output, text);
  } else if (readFileSync(output, 'utf8') !== text) {
    console.error(`${OUTPUT} does not match bpf/abi.h: run make generate`);
    process.exitCode = 1;
  }
}

if (import.meta.main) main();
