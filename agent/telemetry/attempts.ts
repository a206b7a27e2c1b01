import type { Metric } from 'prom-client';
import { FAMILIES, type Family } from '../lib/ip.ts';
import type { Counters } from '../tables/counters.ts';

const BOUNDS = [1, 2, 4, 8, 16, 32];

interface Sample {
  metricName: string;
  labels: Record<string, string | number>;
  value: number;
}

/**
 * The datapath's own histogram of port allocations, in the shape that a registry prints. The slot
 * of a first candidate counts as one attempt; scans and failures are beyond the last bound.
 */
export function attemptsHistogram(
  name: string,
  { counters }: { counters(family: Family): Counters },
): Metric {
  const help = 'Candidates looked at until a port was found.';
  const type = 'histogram';
  const get = async () => {
    const values = samples(name, addUp(FAMILIES.map((family) => counters(family).natAttempts)));
    return { name, help, type, aggregator: 'sum', values };
  };
  return { name, help, type, get, reset() {} } as unknown as Metric;
}

function addUp(slots: readonly (readonly (number | bigint)[])[]): number[] {
  const sums: number[] = [];
  for (const family of slots) {
    for (const [slot, count] of family.entries()) sums[slot] = (sums[slot] ?? 0) + Number(count);
  }
  return sums;
}

function samples(name: string, slots: number[]): Sample[] {
  const total = slots.reduce((sum, count) => sum + count, 0);
  const sum = slots.reduce((sum, count, slot) => sum + count * (slot + 1), 0);
  const buckets = BOUNDS.map((bound) => ({
    metricName: `${name}_bucket`,
    labels: { le: bound },
    value: slots.slice(0, bound).reduce((below, count) => below + count, 0),
  }));
  return [
    ...buckets,
    { metricName: `${name}_bucket`, labels: { le: '+Inf' }, value: total },
    { metricName: `${name}_sum`, labels: {}, value: sum },
    { metricName: `${name}_count`, labels: {}, value: total },
  ];
}
