import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './command.ts';
import { FAMILIES } from './topology.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COPIED = ['agent', 'bin', 'bpf', 'scripts', 'Makefile', 'package.json'];

/** A place in the project's sources, which must be there, and what takes it. */
export interface Edit {
  file: string;
  find: string;
  put: string;
}

/**
 * Builds another version of the project in a directory: this one with edits. Answers with the
 * path of its command.
 */
export async function buildVariant(directory: string, edits: readonly Edit[]): Promise<string> {
  mkdirSync(directory);
  for (const name of COPIED) {
    cpSync(join(ROOT, name), join(directory, name), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  for (const { file, find, put } of edits) {
    const path = join(directory, file);
    const text = readFileSync(path, 'utf8');
    if (!text.includes(find)) throw new Error(`${file} does not say: ${find}`);
    writeFileSync(path, text.replace(find, put));
  }
  const objects = FAMILIES.flatMap((family) =>
    ['', '-reap', '-copy'].map((part) => `${family}${part}.bpf.o`),
  );
  const targets = [...objects.map((name) => `build/bpf/${name}`), 'generate'];
  await run(['make', '--no-print-directory', '-C', directory, '-j2', ...targets]);
  return join(directory, 'bin/sekisho');
}
