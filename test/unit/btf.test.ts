import assert from 'node:assert/strict';
import { test } from 'node:test';
import { elfSection, parseBtf } from '../../scripts/btf.ts';
import { generateAbi } from '../../scripts/generate-abi.ts';

/** Writes a BTF section: names are collected, types are appended in order of their ids. */
class BtfWriter {
  #strings = '\0';
  #types: number[] = [];

  name(text: string): number {
    const at = this.#strings.length;
    this.#strings += `${text}\0`;
    return text === '' ? 0 : at;
  }

  add(name: string, kind: number, length: number, sizeOrType: number, ...body: number[]): this {
    this.#types.push(this.name(name), ((kind << 24) | length) >>> 0, sizeOrType, ...body);
    return this;
  }

  bytes(): Uint8Array {
    const types = Buffer.from(Uint32Array.from(this.#types).buffer);
    const strings = Buffer.from(this.#strings, 'latin1');
    const header = Buffer.from(
      Uint32Array.of(0x0001eb9f, 24, 0, types.length, types.length, strings.length).buffer,
    );
    return Buffer.concat([header, types, strings]);
  }
}

const [INT, ARRAY, STRUCT, ENUM, TYPEDEF, CONST] = [1, 3, 4, 6, 8, 10];

/** Ids: 1 u32, 2 u16, 3 __be16, 4 ip_addr[words], 5 u8, 6 u8[2], 7 const u32, 8 row, 9 enum. */
function sampleBtf(addressWords: number): Uint8Array {
  const btf = new BtfWriter();
  const size = 4 * addressWords;
  const member = (name: string, type: number, offset: number) => [btf.name(name), type, offset * 8];
  return btf
    .add('unsigned int', INT, 0, 4, 32)
    .add('unsigned short', INT, 0, 2, 16)
    .add('__be16', TYPEDEF, 0, 2)
    .add('ip_addr', STRUCT, 0, size)
    .add('unsigned char', INT, 0, 1, 8)
    .add('', ARRAY, 0, 0, 5, 1, 2)
    .add('', CONST, 0, 1)
    .add(
      'row',
      STRUCT,
      4,
      size + 8,
      ...member('addr', 4, 0),
      ...member('port', 3, size),
      ...member('pad', 6, size + 2),
      ...member('until', 7, size + 4),
    )
    .add('color', ENUM, 2, 4, btf.name('COLOR_RED'), 0, btf.name('COLOR_BLUE'), 5)
    .bytes();
}

test('types are read from a BTF section by id', () => {
  const types = parseBtf(sampleBtf(1));
  assert.deepEqual(types[1], { kind: 'int', name: 'unsigned int', size: 4, signed: false });
  assert.deepEqual(types[6], { kind: 'array', name: '', type: 5, count: 2 });
  assert.deepEqual(types[9], {
    kind: 'enum',
    name: 'color',
    size: 4,
    values: [
      ['COLOR_RED', 0],
      ['COLOR_BLUE', 5],
    ],
  });
  const row = types[8];
  assert.ok(row?.kind === 'struct');
  assert.deepEqual(row.members[1], { name: 'port', type: 3, bitOffset: 32, bitSize: 0 });
});

test('generated text carries byte order, padding left out, and both families', () => {
  const text = generateAbi({ ipv4: sampleBtf(1), ipv6: sampleBtf(4) });
  assert.match(text, /export const color = \{\n {2}COLOR_RED: 0,\n {2}COLOR_BLUE: 5,\n\}/);
  assert.match(text, /export interface Row \{\n {2}addr: Uint8Array;\n {2}port: number;\n/);
  assert.match(text, /addr: \{ offset: 0, size: 4, kind: 'bytes' \}/);
  assert.match(text, /addr: \{ offset: 0, size: 16, kind: 'bytes' \}/);
  assert.match(text, /port: \{ offset: 16, size: 2, kind: 'be16' \}/);
  assert.match(text, /until: \{ offset: 20, size: 4, kind: 'u32' \}/);
  assert.doesNotMatch(text, /pad/);
});

test('foreign files are refused', () => {
  assert.throws(() => parseBtf(new Uint8Array(64)), /no little-endian BTF/);
  assert.throws(() => elfSection(new Uint8Array(64), '.BTF'), /ELF/);
});
