import type { z } from 'zod';
import { configSchema } from './schema.ts';

type Key = PropertyKey;

interface Definition {
  type: string;
  innerType?: z.ZodType;
  in?: z.ZodType;
  element?: z.ZodType;
  shape?: Record<string, z.ZodType>;
}

/** Keys that are known where `path` leads; empty when no mapping stands there. */
export function knownKeys(path: readonly Key[]): string[] {
  const schema = schemaAt(path);
  return schema === undefined ? [] : Object.keys(definitionOf(schema).shape ?? {});
}

/** An example of a valid value at `path`, if the schema has one. */
export function exampleAt(path: readonly Key[]): unknown {
  for (let schema = schemaAt(path, false); schema !== undefined; schema = inner(schema)) {
    const examples = schema.meta()?.examples;
    if (Array.isArray(examples) && examples.length > 0) return examples[0];
  }
  return undefined;
}

/** Every key of the file that is called `name`, as dotted paths; lists are written `[]`. */
export function pathsOfKey(name: string): string[] {
  return allPaths().filter((path) => path.split('.').at(-1) === name);
}

/** Every key of the file as a dotted path: `endpoints[].name`. */
export function allPaths(): string[] {
  const paths: string[] = [];
  collect(configSchema, '', paths);
  return paths;
}

function collect(schema: z.ZodType, prefix: string, paths: string[]): void {
  const { shape, element } = definitionOf(unwrap(schema));
  if (element) collect(element, `${prefix}[]`, paths);
  for (const [key, value] of Object.entries(shape ?? {})) {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    paths.push(path);
    collect(value, path, paths);
  }
}

function schemaAt(path: readonly Key[], unwrapped = true): z.ZodType | undefined {
  let schema: z.ZodType | undefined = configSchema;
  for (const key of path) {
    if (schema === undefined) return undefined;
    const { shape, element }: Definition = definitionOf(unwrap(schema));
    schema = typeof key === 'number' ? element : shape?.[String(key)];
  }
  return schema && unwrapped ? unwrap(schema) : schema;
}

function unwrap(schema: z.ZodType): z.ZodType {
  let outer = schema;
  for (let next = inner(outer); next !== undefined; next = inner(outer)) outer = next;
  return outer;
}

function inner(schema: z.ZodType): z.ZodType | undefined {
  const definition = definitionOf(schema);
  return definition.innerType ?? definition.in;
}

function definitionOf(schema: z.ZodType): Definition {
  return schema._zod.def as Definition;
}
