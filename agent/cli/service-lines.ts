import { formatDuration } from '../lib/units.ts';
import type { ListedFrontend, ListedService } from './service-view.ts';
import type { Cell } from './text-table.ts';

export const SERVICE_HEADING = [
  'ID',
  'NAME',
  'TYPE',
  'FRONTEND',
  'REVNAT',
  'BACKENDS',
  'FORWARDING',
  'STATE',
];

/** A line for each frontend; one for a service that has none. */
export function serviceRows(service: ListedService): Cell[][] {
  const { id, name, type, frontends, forwarding } = service;
  const none = [undefined];
  return (frontends.length > 0 ? frontends : none).map((frontend) => [
    id ?? '-',
    name || '-',
    type ?? '-',
    frontend ? frontendWord(frontend) : '-',
    frontend?.revNat ?? '-',
    backendsWord(service),
    forwarding ?? '-',
    stateWords(service),
  ]);
}

/** `172.190.0.17:80/TCP`, `[fd00::1]:80/TCP`. */
export function frontendWord({
  address,
  port,
  protocol,
}: Pick<ListedFrontend, 'address' | 'port' | 'protocol'>): string {
  const host = address.includes(':') ? `[${address}]` : address;
  return `${host}:${port}/${protocol}`;
}

/** `2/3`: so many of all take new connections; `0/3 (pods 2/3)` where that depends on who asks. */
export function backendsWord({ eligible, backends }: ListedService): string {
  const total = Object.values(backends).reduce((sum, count) => sum + count, 0);
  const { external, internal } = eligible;
  const word = `${external}/${total}`;
  return external === internal ? word : `${word} (pods ${internal}/${total})`;
}

function stateWords({ state, problems }: ListedService): string {
  return problems.length > 0 ? `${state}: ${problems.join('; ')}` : state;
}

export function affinityWord(seconds: number | null): string {
  return seconds === null ? 'none' : formatDuration(seconds);
}
