import type { Document, YAMLParseError } from 'yaml';
import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, visit } from 'yaml';
import { ConfigError } from '../lib/errors.ts';
import type { Path } from './problem.ts';

export interface Place {
  /** From 1. */
  line: number;
  /** From 1. */
  column: number;
}

/** A parsed YAML file that remembers where everything stands. */
export interface Source {
  /** Plain data; a key without a value (`gc:`) is `undefined`, as if it were not there. */
  data: unknown;
  syntaxErrors: ConfigError[];
  /** Where the key or the value at `path` stands; its nearest parent when it is not there. */
  locate(path: Path, at: 'key' | 'value'): Place;
}

/** From so many characters on, JSON is read as JSON: in a hundredth of the time. */
const LARGE = 256 * 1024;

/** Reads YAML 1.2. Never throws: what is wrong with the syntax is in `syntaxErrors`. */
export function parseSource(text: string, file: string): Source {
  const data = text.length < LARGE ? undefined : readJson(text);
  if (data === undefined) return parseYaml(text, file);
  let whole: Source | undefined;
  return {
    data: absentNulls(data),
    syntaxErrors: [],
    locate(path, at) {
      whole ??= parseYaml(text, file);
      return whole.locate(path, at);
    },
  };
}

/** Undefined for what is none. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function parseYaml(text: string, file: string): Source {
  const lines = new LineCounter();
  const options = { lineCounter: lines, prettyErrors: false, logLevel: 'error' } as const;
  const document = parseDocument(text, options);
  const placeOf = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const syntaxErrors = document.errors.map(
    (error) => new ConfigError(syntaxMessage(error), { file, ...placeOf(error.pos[0]) }),
  );
  let data: unknown;
  try {
    if (syntaxErrors.length === 0) data = absentNulls(document.toJS());
  } catch (cause) {
    const place = placeOf(strayAlias(document) ?? 0);
    syntaxErrors.push(
      new ConfigError(lowered((cause as Error).message), { file, ...place }, { cause }),
    );
  }
  return {
    data,
    syntaxErrors,
    locate: (path, at) => placeOf(offsetOf(document, path, at)),
  };
}

function offsetOf(document: Document, path: Path, at: 'key' | 'value'): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const [depth, key] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    const item = isSeq(node)
      ? { key: undefined, value: node.items[Number(key)] }
      : pairOf(node, key);
    if (item === undefined) return offset;
    const isLast = depth === path.length - 1;
    const target = isLast && at === 'key' ? (item.key ?? item.value) : item.value;
    offset = startOf(target) ?? startOf(item.key) ?? offset;
    node = item.value;
  }
  return offset;
}

function pairOf(node: unknown, key: PropertyKey): { key: unknown; value: unknown } | undefined {
  if (!isMap(node)) return undefined;
  return node.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === String(key));
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}

/** Where an alias stands that no anchor before it leads to. */
function strayAlias(document: Document): number | undefined {
  const anchors = new Set<string>();
  let offset: number | undefined;
  visit(document, {
    Alias(_key, alias) {
      if (anchors.has(alias.source)) return undefined;
      offset = startOf(alias);
      return visit.BREAK;
    },
    Value(_key, { anchor }) {
      if (anchor !== undefined) anchors.add(anchor);
    },
  });
  return offset;
}

function syntaxMessage({ code, message }: YAMLParseError): string {
  return code === 'MULTIPLE_DOCS' ? 'expected one document, got several' : lowered(message);
}

/** The first line of a message of the parser. */
function lowered(message: string): string {
  const [first = ''] = message.split('\n', 1);
  return `${first.charAt(0).toLowerCase()}${first.slice(1).replace(/[.:]$/, '')}`;
}

function absentNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => (item === null ? null : absentNulls(item)));
  if (typeof value !== 'object' || value === null) return value ?? undefined;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, absentNulls(item)]));
}
