import type { Topology } from './topology.ts';

export type Labels = Record<string, string>;

/** One scrape. */
export interface Metrics {
  text: string;
  /** Sum of the samples of a name that carry all of these labels; 0 when there is none. */
  sum(name: string, labels?: Labels): number;
}

const FETCH = `const r = await fetch(process.argv[1]); process.stdout.write(await r.text());
process.exit(r.ok ? 0 : 1)`;

/** Reads a page of the daemon's HTTP listener from inside the node's namespace. */
export async function fetchPage(topo: Topology, path: string): Promise<string> {
  const url = `http://127.0.0.1:9964${path}`;
  const command = [process.execPath, '--input-type=module', '-e', FETCH, url];
  const { stdout } = await topo.node.exec(...command);
  return stdout;
}

export async function scrape(topo: Topology): Promise<Metrics> {
  const text = await fetchPage(topo, '/metrics');
  const samples = text.split('\n').flatMap(parseSample);
  return {
    text,
    sum: (name, labels = {}) =>
      samples
        .filter((sample) => sample.name === name && matches(sample.labels, labels))
        .reduce((total, sample) => total + sample.value, 0),
  };
}

function parseSample(line: string) {
  const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
  if (!match) return [];
  const [, name = '', pairs = '', value] = match;
  const labels = Object.fromEntries(
    [...pairs.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text]),
  ) as Labels;
  return [{ name, labels, value: Number(value) }];
}

function matches(labels: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([key, value]) => labels[key] === value);
}
