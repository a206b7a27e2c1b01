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
  /** In the order of the file; empty when `errors` is not. */
  services: WrittenService[];
  /** In the order of the file. */
  errors: ConfigError[];
  /** Where the name of the n-th service stands. */
  placeOf(index: number): Place;
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
  let source: Source | undefined;
  return {
    services: servicesOf(input),
    errors: [],
    placeOf(index) {
      source ??= parseSource(text, file);
      return placeOfName(source, shape, index);
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
  const placeOf = (index: number) => placeOfName(source, shape, index);
  if (source.syntaxErrors.length > 0) return { services: [], errors: source.syntaxErrors, placeOf };
  const errors = problemsIn(input).map(({ path, at, message }) => {
    const inFile = told(shape, path, message);
    return problemError({ ...inFile, at }, { file, ...source.locate(inFile.path, at) });
  });
  const services = errors.length > 0 ? [] : servicesOf(input);
  return { services, errors: errors.sort(byPlace), placeOf };
}

function servicesOf(input: unknown): WrittenService[] {
  return (input as { services: WrittenService[] }).services;
}

function placeOfName(source: Source, shape: Shape, index: number): Place {
  return source.locate(unwrapped(shape, ['services', index, 'name']), 'value');
}

function problemsIn(input: unknown): Problem[] {
  const { success, data, error } = listSchema.safeParse(input);
  return success ? repeatedNames(data.services) : problemsOf(error.issues, input);
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

function repeatedNames(services: readonly { name: string }[]): Problem[] {
  const names = new Set<string>();
  return services.flatMap(({ name }, i) => {
    if (!names.has(name)) {
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
