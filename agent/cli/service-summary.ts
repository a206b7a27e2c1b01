import { noStates, type StateCounts } from '../tables/backend-states.ts';
import type { ListedService, ServiceState } from './service-view.ts';

/** What `status` says of services. */
export interface ServiceSummary {
  /** By name, or by number where the name is not known. */
  total: number;
  ready: number;
  no_backend: number;
  pending: number;
  rejected: number;
  /** Addresses and ports they answer on. */
  frontends: number;
  /** Backends in the datapath, by state. */
  backends: StateCounts;
}

/** A service's state is that of its worst part. */
const WORST_FIRST: readonly ServiceState[] = ['rejected', 'pending', 'no_backend', 'ready'];

export function summarizeServices(services: Iterable<ListedService>): ServiceSummary {
  const states = new Map<string | symbol, ServiceState>();
  const backends = noStates();
  let frontends = 0;
  for (const { id, name, state, backends: own, frontends: places } of services) {
    // what is not in the datapath is listed once, and may have another one's name
    const key = id === null ? Symbol() : (name ?? `#${id}`);
    states.set(key, worse(states.get(key) ?? 'ready', state));
    if (id === null) continue;
    frontends += places.length;
    for (const one of Object.keys(own) as (keyof StateCounts)[]) backends[one] += own[one];
  }
  const counts = { ready: 0, no_backend: 0, pending: 0, rejected: 0 };
  for (const state of states.values()) counts[state]++;
  return { total: states.size, ...counts, frontends, backends };
}

/** `3, 1 without backend; backends: 4 active, 1 terminating`. */
export function summaryWords({ total, backends, ...counts }: ServiceSummary): string {
  if (total === 0) return 'none';
  const states = [
    [counts.no_backend, 'without backend'],
    [counts.pending, 'pending'],
    [counts.rejected, 'rejected'],
  ] as const;
  const odd = states.filter(([count]) => count > 0).map(([count, word]) => `, ${count} ${word}`);
  const known = Object.entries(backends).filter(([, count]) => count > 0);
  const all = known.map(([state, count]) => `${count} ${state}`).join(', ');
  return `${total}${odd.join('')}; backends: ${all || 'none'}`;
}

function worse(a: ServiceState, b: ServiceState): ServiceState {
  return WORST_FIRST.indexOf(a) < WORST_FIRST.indexOf(b) ? a : b;
}
