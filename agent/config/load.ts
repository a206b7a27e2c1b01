import { readFileSync } from 'node:fs';
import { hostname, totalmem } from 'node:os';
import { ConfigError } from '../lib/errors.ts';
import { crossChecks } from './checks.ts';
import type { Problem } from './problem.ts';
import { problemError, problemsOf } from './problem.ts';
import type { Config } from './schema.ts';
import { configSchema } from './schema.ts';
import { parseSource } from './source.ts';

/** Read when no file is named; it may be missing. */
export const DEFAULT_CONFIG_FILE = '/etc/sekisho/config.yaml';

export interface CheckedConfig {
  /** Present when `errors` is empty. */
  config?: Config;
  /** In the order of the file. */
  errors: ConfigError[];
}

/**
 * Reads and validates a configuration file. Without a name, the default file, and defaults
 * alone when there is none. Throws ConfigError: the first problem, and how many follow.
 */
export function loadConfig(file: string | undefined): Config {
  const { config, errors } = checkConfig(readConfig(file), file ?? DEFAULT_CONFIG_FILE);
  const [first, ...others] = errors;
  if (first !== undefined && others.length > 0) throw withHint(first, others.length, file);
  if (config === undefined) throw first;
  return config;
}

/** The text of a configuration file; throws ConfigError when a named one cannot be read. */
export function readConfig(file: string | undefined): string {
  const path = file ?? DEFAULT_CONFIG_FILE;
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (file === undefined && code === 'ENOENT') return '';
    const { reason, hint } = unreadable(code ?? message);
    throw new ConfigError(`cannot read it: ${reason}`, { file: path }, { cause, hint });
  }
}

function unreadable(code: string): { reason: string; hint: string } {
  if (code === 'EACCES') return { reason: 'permission denied', hint: 'run it as root' };
  const reasons: Record<string, string> = { ENOENT: 'no such file', EISDIR: 'it is a directory' };
  const hint = 'name an existing file with --config, or leave it out for the defaults';
  return { reason: reasons[code] ?? code, hint };
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
  const parsed = configSchema.safeParse(input);
  const problems = parsed.success
    ? crossChecks(parsed.data, totalMemory)
    : problemsOf(parsed.error.issues, input);
  if (!parsed.success || problems.length > 0) {
    return { errors: inOrder(problems.map((problem) => located(problem))) };
  }
  const { node } = parsed.data;
  return {
    config: { ...parsed.data, node: { ...node, name: node.name ?? hostname() } },
    errors: [],
  };

  function located(problem: Problem): ConfigError {
    return problemError(problem, { file, ...source.locate(problem.path, problem.at) });
  }
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
