import { readFileSync } from 'node:fs';

/** A file of /proc without its last line's end; `unknown` where it cannot be read. */
export function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return 'unknown';
  }
}
