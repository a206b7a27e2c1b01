import { Counter, Gauge, type Registry } from 'prom-client';

export const PREFIX = 'sekisho_';

export type Labels = Record<string, string>;

/** What takes a moment to be read: a value for each set of labels. */
export type LateValues = () => Promise<Iterable<readonly [labels: Labels, value: number]>>;

/** Makes the metrics of one registry; every name gets the prefix. */
export type Maker = ReturnType<typeof metricMaker>;

export function metricMaker(registry: Registry) {
  const registers = [registry];
  return {
    counter: (name: string, help: string, labelNames: string[] = []) =>
      new Counter({ name: PREFIX + name, help, labelNames, registers }),
    gauge: (name: string, help: string, labelNames: string[] = []) =>
      new Gauge({ name: PREFIX + name, help, labelNames, registers }),
    /** A gauge whose value stands elsewhere. */
    reading(
      name: string,
      help: string,
      labelNames: string[],
      read: (set: (labels: Labels, value: number) => void) => void,
    ) {
      new Gauge({
        name: PREFIX + name,
        help,
        labelNames,
        registers,
        collect() {
          this.reset();
          read((labels, value) => this.set(labels, value));
        },
      });
    },
    /** A counter whose value stands elsewhere: `read` tells all of it at every scrape. */
    mirror(
      name: string,
      help: string,
      labelNames: string[],
      read: (set: (labels: Labels, value: number | bigint) => void) => void,
    ) {
      new Counter({
        name: PREFIX + name,
        help,
        labelNames,
        registers,
        collect() {
          this.reset();
          read((labels, value) => this.inc(labels, Number(value)));
        },
      });
    },
    /** Like `reading` and `mirror`, off the event loop. */
    late(
      type: 'gauge' | 'counter',
      name: string,
      help: string,
      labelNames: string[],
      read: LateValues,
    ) {
      const shape = { name: PREFIX + name, help, labelNames, registers };
      if (type === 'gauge') {
        new Gauge({
          ...shape,
          async collect() {
            const values = await read();
            this.reset();
            for (const [labels, value] of values) this.set(labels, value);
          },
        });
        return;
      }
      new Counter({
        ...shape,
        async collect() {
          const values = await read();
          this.reset();
          for (const [labels, value] of values) this.inc(labels, value);
        },
      });
    },
  };
}
