import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { SekishoError } from '../lib/errors.ts';

/**
 * What an earlier run left in a file; undefined where there is none. `what` is forgotten with the
 * file. Throws E_LAYOUT when it cannot be understood.
 */
export function readStored<T>(path: string, schema: z.ZodType<T>, what: string): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new SekishoError('E_LAYOUT', `${path} cannot be understood`, {
      cause,
      hint: `remove it; ${what} are then forgotten`,
    });
  }
}
