import { readFileSync } from 'node:fs';
import { hostname, totalmem } from 'node:os';
import { ConfigError } from '../lib/errors.ts';
import { crossChecks } from './checks.ts';
import type { Path, Problem } from './problem.ts';
import { problemError, problemsOf } from './problem.ts';
import type { Config } from './schema.ts';
import { configSchema } from './schema.ts';
import { knownKeys } from './schema-walk.ts';
import { parseSource } from './source.ts';

type Parsed = ReturnType<typeof configSchema.parse>;

/** Read when no file is named; it may be missing. */
export const DEFAULT_CONFIG_FILE = '/etc/sekisho/config.yaml';

export interface CheckedConfig {
  /** Present when `errors` is empty. */
  config?: Config;
  /** Present where all that is wrong is wrong with some services: the rest without those. */
  rest?: Config;
  /** In the order of the file. */
  errors: ConfigError[];
}

/**
 * Reads and validates a configuration file. Without a name, the default file, and defaults
 * alone when there is none. A service that is not valid is left out, and named in the result.
 * Throws ConfigError for anything else: the first problem, and how many follow.
 */
export function loadConfig(file: string | undefined): Config {
  const checked = checkConfig(readConfig(file), file ?? DEFAULT_CONFIG_FILE);
  const { errors, config = checked.rest } = checked;
  if (config !== undefined) return config;
  const [first, ...others] = errors;
  if (first !== undefined && others.length > 0) throw withHint(first, others.length, file);
  throw first;
}

/** Where pins and socket are, and what a file that is not valid leaves of the rest. */
export interface FoundConfig {
  config: Config;
  /** Why all but `state` is as by default. */
  problem?: ConfigError;
}

/**
 * The same for commands beside the agent, which goes on when its file is spoilt under it: of a file
 * that is not valid, its `state`, and defaults. Throws ConfigError where that cannot be told.
 */
export function findConfig(file: string | undefined): FoundConfig {
  try {
    return { config: loadConfig(file) };
  } catch (problem) {
    if (!(problem instanceof ConfigError)) throw problem;
    const state = stateOf(readConfig(file));
    const alone = state && checkConfig(JSON.stringify({ state }), '').config;
    if (alone === undefined) throw problem;
    return { config: alone, problem };
  }
}

/** What a text says of `state`; undefined where that cannot be told: a key may be it, misspelt. */
function stateOf(text: string): object | undefined {
  const { data } = parseSource(text, '');
  if (typeof data !== 'object' || data === null) return undefined;
  const { state } = data as { state?: unknown };
  if (typeof state === 'object' && state !== null) return state;
  const known = new Set(knownKeys([]));
  const isPlain = state === undefined && Object.keys(data).every((key) => known.has(key));
  return isPlain ? {} : undefined;
}

/** The text of a configuration file; throws ConfigError when a named one cannot be read. */
export function readConfig(file: string | undefined): string {
  const path = file ?? DEFAULT_CONFIG_FILE;
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (file === undefined && code === 'ENOENT') return '';
    const hint =
      code === 'EACCES'
        ? 'run it as root'
        : 'name an existing file with --config, or leave it out for the defaults';
    const reason = reasonUnreadable(cause);
    throw new ConfigError(`cannot read it: ${reason}`, { file: path }, { cause, hint });
  }
}

/** Why reading a file failed, in a few words. */
export function reasonUnreadable(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    EACCES: 'permission denied',
    EISDIR: 'it is a directory',
    ENOENT: 'no such file',
  };
  return reasons[code ?? ''] ?? code ?? message;
}

/** Validates a text and finds everything wrong with it at once. `file` is for messages only. */
export function checkConfig(
  text: string,
  file: string,
  totalMemory: number = totalmem(),
): CheckedConfig {
  const source = parseSource(text, file);
  if (source.syntaxErrors.length > 0) return { errors: source.syntaxErrors };
  const input = source.data ?? {};
  const { parsed, problems } = validate(input, totalMemory);
  if (parsed && problems.length === 0) return { config: named(parsed), errors: [] };
  const errors = inOrder(problems.map((problem) => located(problem)));
  const left = withoutBad(input, problems, totalMemory);
  if (!left) return { errors };
  const rejectedServices = left.bad.map(({ name, problem }) => {
    return { name, reason: located(problem).message };
  });
  return { rest: { ...named(left.parsed), rejectedServices }, errors };

  function located(problem: Problem): ConfigError {
    return problemError(problem, { file, ...source.locate(problem.path, problem.at) });
  }
}

function validate(input: object, totalMemory: number) {
  const result = configSchema.safeParse(input);
  if (!result.success) return { problems: problemsOf(result.error.issues, input) };
  return { parsed: result.data, problems: crossChecks(result.data, totalMemory) };
}

function named({ node, ...config }: Parsed): Config {
  return { ...config, node: { ...node, name: node.name ?? hostname() } };
}

/** A service that is not valid, and the first thing that is wrong with it. */
interface BadService {
  name: string;
  problem: Problem;
}

/** What is left once all that is not valid is left out; undefined where that is not services alone. */
function withoutBad(
  input: object,
  first: Problem[],
  totalMemory: number,
): { parsed: Parsed; bad: BadService[] } | undefined {
  const bad = new Map<number, BadService>();
  const { services } = input as { services?: { name?: unknown }[] };
  let places = [...(services ?? []).keys()];
  for (let problems = first; ; ) {
    for (const problem of problems) {
      const place = places[serviceOf(problem.path) ?? -1];
      if (place === undefined) return undefined;
      if (bad.has(place)) continue;
      const name = services?.[place]?.name;
      const path = ['services', place, ...problem.path.slice(2)];
      bad.set(place, { name: `${name ?? ''}`, problem: { ...problem, path } });
    }
    places = places.filter((place) => !bad.has(place));
    const kept = places.map((place) => services?.[place]);
    const rest = validate({ ...input, services: kept }, totalMemory);
    if (rest.parsed && rest.problems.length === 0) {
      return { parsed: rest.parsed, bad: [...bad.values()] };
    }
    problems = rest.problems;
  }
}

/** Which service a problem is one of; undefined where it is not one of a single service. */
function serviceOf([section, index]: Path): number | undefined {
  return section === 'services' && typeof index === 'number' ? index : undefined;
}

function inOrder(errors: ConfigError[]): ConfigError[] {
  return errors.toSorted(
    (a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0),
  );
}

function withHint(error: ConfigError, others: number, file: string | undefined): ConfigError {
  const { line, column, path, message } = error;
  const place = { file: error.file, line, column, path };
  const bare = new ConfigError('', place).message;
  const hint = `${others} more: sekisho config check ${file ?? DEFAULT_CONFIG_FILE}`;
  return new ConfigError(message.slice(bare.length), place, { hint });
}
