import type { z } from 'zod';
import type { ConfigPlace } from '../lib/errors.ts';
import { ConfigError } from '../lib/errors.ts';
import { exampleAt, knownKeys, pathsOfKey } from './schema-walk.ts';
import { editDistance, nearest } from './suggest.ts';

/** Edits that a slip of the hand takes: a key so near is meant, not one of its name elsewhere. */
const SLIP = 2;

export type Path = readonly PropertyKey[];

/** Something wrong with a configuration; `at` tells which side of the pair to point to. */
export interface Problem {
  path: Path;
  at: 'key' | 'value';
  message: string;
}

/** `['endpoints', 0, 'name']` → `endpoints[0].name`. */
export function formatPath(path: Path): string {
  return path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .replace(/^\./, '');
}

/**
 * Turns what zod found in `input` into problems, in the words of this project. `suggest` names a
 * key that is known in place of one that is not.
 */
export function problemsOf(
  issues: readonly z.core.$ZodIssue[],
  input: unknown,
  suggest: (path: Path) => string | undefined = keyOfConfig,
): Problem[] {
  return issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => unknownKey([...issue.path, key], suggest))
      : [wrongValue(issue, input)],
  );
}

/** The error of a problem, once it is known where it stands in the file. */
export function problemError(problem: Problem, place: ConfigPlace): ConfigError {
  return new ConfigError(problem.message, {
    ...place,
    path: formatPath(problem.path) || undefined,
  });
}

/** The known key of the configuration that is nearest, or of that name elsewhere. */
function keyOfConfig(path: Path): string | undefined {
  const key = String(path.at(-1));
  const parent = path.slice(0, -1);
  const close = nearest(key, knownKeys(parent));
  const beside = close && formatPath([...parent, close]);
  const isSlip = close !== undefined && editDistance(key, close) <= SLIP;
  return isSlip ? beside : (pathsOfKey(key)[0] ?? beside);
}

function unknownKey(path: Path, suggest: (path: Path) => string | undefined): Problem {
  const key = String(path.at(-1));
  const suggestion = suggest(path);
  const advice = suggestion === undefined ? '' : `; did you mean "${suggestion}"?`;
  return { path, at: 'key', message: `unknown key "${key}"${advice}` };
}

function wrongValue(issue: z.core.$ZodIssue, input: unknown): Problem {
  const value = valueAt(input, issue.path);
  const expected = expectation(issue);
  if (value === undefined && issue.path.length > 0) {
    const message = `missing; ${expected}${example(issue.path)}`;
    return { path: issue.path, at: 'value', message };
  }
  const message = `${expected}, got ${describe(value)}${example(issue.path)}`;
  return { path: issue.path, at: 'value', message };
}

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'invalid_type') return issue.message;
  if (issue.expected === 'object') return 'expected a mapping of keys to values';
  if (issue.expected === 'array') return 'expected a list';
  return issue.message;
}

function example(path: Path): string {
  const value = exampleAt(path);
  if (value === undefined) return '';
  const key = path.at(-1);
  return `; example: ${typeof key === 'string' ? `${key}: ` : ''}${String(value)}`;
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'a mapping';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

function valueAt(input: unknown, path: Path): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}
