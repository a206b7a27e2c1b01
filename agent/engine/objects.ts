import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SekishoError } from '../lib/errors.ts';

const PLACES = ['build/bpf', 'bpf'];

/**
 * Path of a compiled BPF object, e.g. `ipv4.bpf.o`: looked for in `build/bpf` and `bpf` of the
 * directories above this file, so it is found from the sources and from `dist/`.
 * Throws E_LOAD when it is not there.
 */
export function objectPath(name: string): string {
  for (let dir = import.meta.dirname; dir !== dirname(dir); dir = dirname(dir)) {
    const found = PLACES.map((place) => join(dir, place, name)).find((path) => existsSync(path));
    if (found) return found;
  }
  throw new SekishoError('E_LOAD', `the BPF object ${name} is not built`, {
    hint: 'run make build',
  });
}
