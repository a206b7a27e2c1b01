import { SekishoError } from '../lib/errors.ts';

/** What a file of the daemon holds; nothing of one that cannot be understood, and a note why. */
export function leniently<T>(read: () => readonly T[]): readonly T[] {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SekishoError && error.code === 'E_LAYOUT')) throw error;
    process.stderr.write(`sekisho: note: ${error.message}\n`);
    return [];
  }
}
