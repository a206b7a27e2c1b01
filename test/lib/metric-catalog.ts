import { Registry } from 'prom-client';
import { nameCounters } from '../../agent/tables/counters.ts';
import { HOOKS, type Hook } from '../../agent/tables/names.ts';
import { reconcileTimer, registerMetrics } from '../../agent/telemetry/metrics.ts';

export interface KnownMetric {
  type: string;
  labels: string[];
}

/** Every metric that the daemon registers, by its name. */
export function metricCatalog(): Map<string, KnownMetric> {
  const registry = new Registry();
  reconcileTimer(registry);
  registerMetrics(registry, {
    version: '1.2.3',
    settings: () => ({ node: 'node-a', ports: 1000 }),
    interval: () => 30,
    hooks: () => eachHook({ attached: 1, expected: 1 }),
    reattached: () => eachHook(0),
    services: async () => [],
    counters: () => nameCounters([]),
    capacity: () => 1000,
    isSettled: () => true,
    evictions: { read: () => 0, write() {} },
  });
  return new Map(
    registry.getMetricsAsArray().map((metric): [string, KnownMetric] => {
      // What prom-client knows of a metric, and its types do not.
      const { labelNames = [] } = metric as { labelNames?: string[] };
      return [metric.name, { type: typeOf(metric), labels: [...labelNames].sort() }];
    }),
  );
}

/** What an expression of PromQL asks for: a metric and the labels that it names. */
export interface Selector {
  metric: string;
  labels: string[];
}

/** Names that are not of this project, or of its metrics library, are left out. */
export function selectorsOf(expression: string): Selector[] {
  const found = expression.matchAll(/\b((?:sekisho|nodejs|process)_\w+)\s*(?:\{([^}]*)\})?/g);
  return Array.from(found, ([, metric = '', matchers = '']) => ({
    metric,
    labels: Array.from(matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g), ([, label = '']) => label),
  }));
}

/** Labels that an expression groups or joins by. */
export function groupingsOf(expression: string): string[] {
  const found = expression.matchAll(/\b(?:by|on|without|ignoring)\s*\(([^)]*)\)/g);
  return Array.from(found, ([, names = '']) => names.split(',').map((name) => name.trim()))
    .flat()
    .filter((name) => name !== '');
}

/** What the scrape adds to every sample. */
const TARGET_LABELS = ['instance', 'job'];

/** What an expression asks for that nobody serves, one sentence each. */
export function mistakesIn(expression: string, catalog: Map<string, KnownMetric>): string[] {
  const known = new Set(TARGET_LABELS);
  const mistakes: string[] = [];
  for (const { metric, labels } of selectorsOf(expression)) {
    const found = lookUp(metric, catalog);
    if (!found) {
      mistakes.push(`${metric} is not served`);
      continue;
    }
    for (const label of found) known.add(label);
    for (const label of labels) {
      if (!known.has(label)) mistakes.push(`${metric} has no label ${label}`);
    }
  }
  for (const label of groupingsOf(expression)) {
    if (!known.has(label)) mistakes.push(`nothing in it has the label ${label}`);
  }
  return mistakes;
}

function lookUp(metric: string, catalog: Map<string, KnownMetric>): string[] | undefined {
  const found = catalog.get(metric);
  if (found) return found.type === 'histogram' ? undefined : found.labels;
  const [, base = '', part] = /^(.*)_(bucket|sum|count)$/.exec(metric) ?? [];
  const whole = catalog.get(base);
  if (whole?.type !== 'histogram') return undefined;
  return part === 'bucket' ? [...whole.labels, 'le'] : whole.labels;
}

function typeOf(metric: object): string {
  return (metric as { type?: string }).type ?? metric.constructor.name.toLowerCase();
}

function eachHook<Value>(value: Value): Record<Hook, Value> {
  return Object.fromEntries(HOOKS.map((hook) => [hook, value])) as Record<Hook, Value>;
}
