import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as abi from '../../agent/abi/generated.ts';
import { elfSection } from '../../scripts/btf.ts';

const header = readFileSync(join(import.meta.dirname, '../../bpf/abi.h'), 'utf8');
const declared = (keyword: string) =>
  [...header.matchAll(new RegExp(`^${keyword} (\\w+) \\{`, 'gm'))].map(([, name]) => name).sort();

test('every struct and enum of the contract is known to TypeScript', () => {
  const { layouts, ...enums } = abi;
  assert.deepEqual(Object.keys(layouts.ipv4).sort(), declared('struct'));
  assert.deepEqual(Object.keys(layouts.ipv6).sort(), declared('struct'));
  assert.deepEqual(Object.keys(enums).sort(), declared('enum'));
});

test('keys of the connection tables have their published layout', () => {
  const places = (family: 'ipv4' | 'ipv6') =>
    Object.values(abi.layouts[family].tuple.fields).map(({ offset }) => offset);
  assert.equal(abi.layouts.ipv4.tuple.size, 16);
  assert.deepEqual(places('ipv4'), [0, 4, 8, 10, 12, 13]);
  assert.equal(abi.layouts.ipv6.tuple.size, 40);
  assert.deepEqual(places('ipv6'), [0, 16, 32, 34, 36, 37]);
});

test('kinds and flag bits have their published numbers', () => {
  assert.deepEqual(abi.kind, { KIND_OUT: 0, KIND_IN: 1, KIND_RELATED: 2, KIND_SVC: 4 });
  assert.deepEqual(
    Object.values(abi.ct_flag),
    [0x1, 0x2, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x400],
  );
});

const BUILD = join(import.meta.dirname, '../../build/bpf');
const objects = existsSync(BUILD)
  ? readdirSync(BUILD).filter((name) => /^ipv\d(-reap)?\.bpf\.o$/.test(name))
  : [];

test('the configuration opens the read-only data of every program', {
  skip: objects.length === 0 && 'nothing is built',
}, () => {
  for (const name of objects) {
    const file = readFileSync(join(BUILD, name));
    assert.deepEqual(symbol(file, 'config'), { offset: 0, size: abi.layouts.ipv4.config.size });
  }
});

/** Place of a symbol in its section, as the ELF symbol table has it. */
function symbol(file: Uint8Array, name: string): { offset: number; size: number } | undefined {
  const names = Buffer.from(elfSection(file, '.strtab') ?? []);
  const symbols = Buffer.from(elfSection(file, '.symtab') ?? []);
  for (let at = 0; at < symbols.length; at += 24) {
    const start = symbols.readUInt32LE(at);
    if (names.toString('latin1', start, names.indexOf(0, start)) !== name) continue;
    const [offset, size] = [symbols.readBigUInt64LE(at + 8), symbols.readBigUInt64LE(at + 16)];
    return { offset: Number(offset), size: Number(size) };
  }
  return undefined;
}
