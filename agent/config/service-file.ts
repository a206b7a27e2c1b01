import { z } from 'zod';
import type { ConfigError } from '../lib/errors.ts';
import type { Path, Problem } from './problem.ts';
import { problemError, problemsOf } from './problem.ts';
import { serviceSchema } from './service-schema.ts';
import { type Place, parseSource, type Source } from './source.ts';

const listSchema = z.strictObject({ services: z.array(serviceSchema) });

/** A service as the user wrote it: valid, and without defaults. */
export interface WrittenService {
  name: string;
  [key: string]: unknown;
}

export interface ServiceFile {
  /** Those that nothing is wrong with, in the order of the file. */
  services: WrittenService[];
  /** In the order of the file. */
  errors: ConfigError[];
  /** Where the name of one of `services` stands. */
  placeOf(service: WrittenService): Place;
}

/**
 * Reads YAML or JSON that holds one service, a list of them, or a list under `services`, and finds
 * everything wrong with it at once. `file` is for messages only.
 */
export function parseServices(text: string, file: string): ServiceFile {
  return parseJson(text, file) ?? parseYaml(parseSource(text, file), file);
}

/** Valid JSON many times faster than as YAML, which is then asked for places only. */
function parseJson(text: string, file: string): ServiceFile | undefined {
  const { input, shape } = wrapped(jsonOf(text));
  if (problemsIn(input).length > 0) return undefined;
  const services = listIn(input);
  let source: Source | undefined;
  return {
    services,
    errors: [],
    placeOf(service) {
      source ??= parseSource(text, file);
      return placeOfName(source, shape, services.indexOf(service));
    },
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function parseYaml(source: Source, file: string): ServiceFile {
  const { input, shape } = wrapped(source.data);
  const all = listIn(input);
  const placeOf = (service: WrittenService) => placeOfName(source, shape, all.indexOf(service));
  if (source.syntaxErrors.length > 0) return { services: [], errors: source.syntaxErrors, placeOf };
  const problems = problemsIn(input);
  const errors = problems.map(({ path, at, message }) => {
    const inFile = told(shape, path, message);
    return problemError({ ...inFile, at }, { file, ...source.locate(inFile.path, at) });
  });
  return { services: soundOnes(all, problems), errors: errors.sort(byPlace), placeOf };
}

/** What is wrong with one service leaves the others; what is wrong around them leaves none. */
function soundOnes(all: readonly WrittenService[], problems: readonly Problem[]): WrittenService[] {
  const bad = new Set(problems.map(({ path }) => path[1]));
  return bad.has(undefined) ? [] : all.filter((_, i) => !bad.has(i));
}

function placeOfName(source: Source, shape: Shape, index: number): Place {
  return source.locate(unwrapped(shape, ['services', index, 'name']), 'value');
}

function problemsIn(input: unknown): Problem[] {
  const { success, error } = listSchema.safeParse(input);
  const wrong = success ? [] : problemsOf(error.issues, input);
  return [...wrong, ...repeatedNames(listIn(input))];
}

/** The items of the list as they stand there, valid or not. */
function listIn(input: unknown): WrittenService[] {
  const { services } = input as { services?: unknown };
  return Array.isArray(services) ? services : [];
}

/** How the services stand in the file. */
type Shape = 'mapping' | 'list' | 'one';

function wrapped(data: unknown): { input: unknown; shape: Shape } {
  if (Array.isArray(data)) return { input: { services: data }, shape: 'list' };
  const isMapping = typeof data === 'object' && data !== null;
  if (!isMapping || 'services' in data) return { input: data ?? {}, shape: 'mapping' };
  return { input: { services: [data] }, shape: 'one' };
}

/** From a path below `services` to the path in the file. */
function unwrapped(shape: Shape, path: Path): Path {
  if (shape === 'mapping') return path;
  return path.slice(shape === 'list' ? 1 : 2);
}

/** A problem in terms of the file: its path, and the key that it suggests. */
function told(shape: Shape, path: Path, message: string) {
  const inFile = shape === 'mapping' ? message : message.replace(/"services\[\d*\]\./, '"');
  return { path: unwrapped(shape, path), message: inFile };
}

function repeatedNames(services: readonly unknown[]): Problem[] {
  const names = new Set<unknown>();
  return services.flatMap((service, i) => {
    const name = (service as Partial<WrittenService> | null)?.name;
    if (name === undefined || !names.has(name)) {
      names.add(name);
      return [];
    }
    const message = `service ${name} stands in this file already`;
    return [{ path: ['services', i, 'name'], at: 'value' as const, message }];
  });
}

function byPlace(a: ConfigError, b: ConfigError): number {
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);
}
