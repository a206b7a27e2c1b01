import { z } from 'zod';
import type { ConfigError } from '../lib/errors.ts';
import type { Path, Problem } from './problem.ts';
import { problemError, problemsOf } from './problem.ts';
import { serviceSchema } from './service-schema.ts';
import { type Place, parseSource } from './source.ts';

const outerSchema = z.strictObject({ services: z.array(z.unknown()) });

/** A file of services; what each of them says is judged by who applies it. */
export interface ServiceFile {
  /** As the user wrote them; empty when `errors` is not. */
  services: readonly unknown[];
  /** Why the file holds no services at all, in its order. */
  errors: readonly ConfigError[];
  /** Everything that is wrong with the n-th service by itself, in the order of the file. */
  explain(index: number): ConfigError[];
  /** Where the name of the n-th service stands. */
  placeOf(index: number): Place;
}

/**
 * Reads YAML or JSON that holds one service, a list of them, or a list under `services`. `file` is
 * for messages only.
 */
export function parseServices(text: string, file: string): ServiceFile {
  const source = parseSource(text, file);
  const { input, shape } = wrapped(source.data);
  const locate = (path: Path, at: Problem['at']) => source.locate(unwrapped(shape, path), at);
  const errorOf = ({ path, at, message }: Problem): ConfigError => {
    const problem = { path: unwrapped(shape, path), at, message: inWordsOf(shape, message) };
    return problemError(problem, { file, ...locate(path, at) });
  };
  const { success, data, error } = outerSchema.safeParse(input);
  const services = success ? data.services : [];
  const outerErrors = success ? [] : problemsOf(error.issues, input, () => undefined).map(errorOf);
  return {
    services,
    errors: source.syntaxErrors.length > 0 ? source.syntaxErrors : outerErrors.sort(byPlace),
    explain: (index) => problemsIn(services, index).map(errorOf).sort(byPlace),
    placeOf: (index) => locate(['services', index, 'name'], 'value'),
  };
}

function problemsIn(services: readonly unknown[], index: number): Problem[] {
  const { success, error } = serviceSchema.safeParse(services[index]);
  if (success) return [];
  const issues = error.issues.map((issue) => {
    return { ...issue, path: ['services', index, ...issue.path] };
  });
  return problemsOf(issues, { services });
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

/** A message whose suggestion is a key of the file. */
function inWordsOf(shape: Shape, message: string): string {
  return shape === 'mapping' ? message : message.replace(/"services\[\d*\]\./, '"');
}

function byPlace(a: ConfigError, b: ConfigError): number {
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);
}
