import type { Config } from './schema.ts';

/** Sections and keys whose change takes a restart: what is pinned or held depends on them. */
const FIXED: readonly string[] = ['datapath.attach', 'maps', 'state'];

/** Sections and keys that are folded into the programs when these are loaded. */
const IN_PROGRAMS: readonly string[] = [
  'conntrack',
  'masquerade.enabled',
  'masquerade.restore',
  'datapath.routing',
];

/** Services of the file that are not valid are services of the file. */
const LEFT_OUT = 'rejectedServices' satisfies keyof Config;

/** What a running agent has to do to get from one configuration to another. */
export interface ConfigChange {
  /** Keys that differ, as dotted paths; a list is one key. */
  keys: string[];
  /** Those of them that cannot change while the agent runs. */
  fixed: string[];
  /** Whether the programs have to be loaded again. */
  programs: boolean;
}

/** Compares two valid configurations. */
export function compareConfigs(before: Config, after: Config): ConfigChange {
  const found = differences(before, after, '');
  const keys = [...new Set(found.map((key) => (key === LEFT_OUT ? 'services' : key)))];
  return {
    keys,
    fixed: keys.filter((key) => isUnder(key, FIXED)),
    programs: keys.some((key) => isUnder(key, IN_PROGRAMS)),
  };
}

function differences(before: unknown, after: unknown, path: string): string[] {
  if (!isSection(before) || !isSection(after)) {
    return JSON.stringify(before) === JSON.stringify(after) ? [] : [path];
  }
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((key) =>
    differences(before[key], after[key], path === '' ? key : `${path}.${key}`),
  );
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isUnder(key: string, places: readonly string[]): boolean {
  return places.some((place) => key === place || key.startsWith(`${place}.`));
}
