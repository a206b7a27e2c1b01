import type { DropReason } from '../tables/names.ts';
import type { Labels, Maker } from './maker.ts';
import { oncePerScrape } from './once.ts';

/** One service, as a scrape finds it. */
export interface ServiceSample {
  name: string;
  /** How many backends are in each state. */
  backends: Readonly<Record<string, number>>;
  connections: number;
  drops: Partial<Record<DropReason, number>>;
  /** New connections by the backend's address and port, of those that had some. */
  perBackend: ReadonlyMap<string, number>;
}

type Values = [labels: Labels, value: number][];

/** What services are there, and what the datapath counted of them: read at every scrape. */
export function addServiceMetrics(make: Maker, read: () => Promise<ServiceSample[]>): void {
  const samples = oncePerScrape((_: 'all') => read());
  const each = (values: (sample: ServiceSample) => Values) => async () =>
    (await samples('all')).flatMap(values);
  make.late(
    'gauge',
    'service_backends',
    'Backends of each service by state.',
    ['service', 'state'],
    each(({ name: service, backends }) => {
      return Object.entries(backends).map(([state, count]) => [{ service, state }, count]);
    }),
  );
  make.late(
    'counter',
    'service_connections_total',
    'New connections to each service.',
    ['service'],
    each(({ name: service, connections }) => [[{ service }, connections]]),
  );
  make.late(
    'counter',
    'service_backend_connections_total',
    'New connections that each backend of a service was given.',
    ['service', 'backend'],
    each(({ name: service, perBackend }) => {
      return Array.from(perBackend, ([backend, count]) => [{ service, backend }, count]);
    }),
  );
  make.late(
    'counter',
    'service_drops_total',
    'Dropped packets of each service by reason.',
    ['service', 'reason'],
    each(({ name: service, drops }) => {
      return Object.entries(drops).map(([reason, count]) => [{ service, reason }, count]);
    }),
  );
}
