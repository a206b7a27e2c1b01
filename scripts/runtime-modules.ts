/**
 * Lists the npm packages that the agent needs at run time, a path a line, as npm installed them
 * here: what only development needs is left out.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Lock {
  packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
}

const root = join(import.meta.dirname, '..');
const lock: Lock = JSON.parse(readFileSync(join(root, 'node_modules/.package-lock.json'), 'utf8'));
const paths = Object.entries(lock.packages)
  .filter(([, { dev, devOptional }]) => !dev && !devOptional)
  .map(([path]) => path);
/** A nested package comes along with the one around it. */
const outer = paths.filter((path) => !paths.some((other) => path.startsWith(`${other}/`)));
process.stdout.write(outer.map((path) => `${path}\n`).join(''));
