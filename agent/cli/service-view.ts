import { service_flag } from '../abi/generated.ts';
import type { RejectedService } from '../config/schema.ts';
import type { Family } from '../lib/ip.ts';
import type { ServiceView } from '../services/view.ts';
import { noStates, type StateCounts } from '../tables/backend-states.ts';
import type { Eligible, Frontend, PinnedService } from './service-pins.ts';

export type ServiceState = 'ready' | 'no_backend' | 'pending' | 'rejected';

/** Where a service answers, or is to. */
export interface ListedFrontend extends Omit<Frontend, 'revNat'> {
  /** Null of one that is not in the datapath. */
  revNat: number | null;
}

/**
 * A service as listings show it: one element for each family and protocol of its frontends, since
 * each of them has backends and tables of its own. What only the daemon knows is null without it.
 */
export interface ListedService {
  /** Null of one that is not in the datapath. */
  id: number | null;
  name: string | null;
  type: string | null;
  source: 'config' | 'api' | null;
  state: ServiceState;
  problems: string[];
  family: Family | null;
  protocol: string | null;
  frontends: ListedFrontend[];
  /** Null of one that is not valid, as is the next one. */
  algorithm: string | null;
  forwarding: string | null;
  /** Seconds; null without affinity. */
  affinityTimeout: number | null;
  /** Whether only some clients are let in. */
  restricted: boolean;
  /** Backends that new connections are given to. */
  eligible: Eligible;
  /** All backends, by state. */
  backends: StateCounts;
}

/** A service of the datapath, with what the daemon knows of it. */
export function describeService(
  pinned: PinnedService,
  known: ServiceView | undefined,
): ListedService {
  const { id, family, protocol, frontends, flags, affinitySeconds, eligible, states } = pinned;
  const has = (flag: number) => (flags & flag) !== 0;
  const isServed = eligible.external > 0 || eligible.internal > 0;
  return {
    id,
    name: known?.name ?? null,
    type: known?.type ?? null,
    source: known?.source ?? null,
    state: isServed ? 'ready' : 'no_backend',
    problems: known?.problems ?? [],
    family,
    protocol,
    frontends,
    algorithm: has(service_flag.SERVICE_RANDOM) ? 'random' : 'maglev',
    forwarding: has(service_flag.SERVICE_DSR) ? 'dsr' : 'snat',
    affinityTimeout: has(service_flag.SERVICE_AFFINITY) ? affinitySeconds : null,
    restricted: has(service_flag.SERVICE_SOURCE_RANGES),
    eligible,
    backends: states,
  };
}

/** A service that is asked for and not in the datapath. */
export function describeAbsent(known: ServiceView): ListedService {
  const backends = noStates();
  for (const { state } of known.backends) backends[state]++;
  return {
    id: null,
    name: known.name,
    type: known.type,
    source: known.source,
    state: known.state === 'rejected' ? 'rejected' : 'pending',
    problems: known.problems,
    family: null,
    protocol: null,
    frontends: known.frontends.map(({ address, port, protocol, external }) => ({
      ...{ address, port, protocol, external },
      revNat: null,
    })),
    algorithm: known.algorithm,
    forwarding: known.forwarding,
    affinityTimeout: known.sessionAffinity,
    restricted: known.sourceRanges.length > 0,
    eligible: { external: 0, internal: 0 },
    backends,
  };
}

/** A service of the configuration that is not valid: what it asks for is not known. */
export function describeInvalid({ name, reason }: RejectedService): ListedService {
  return {
    ...{ id: null, name, type: null, source: 'config', state: 'rejected', problems: [reason] },
    ...{ family: null, protocol: null, frontends: [], algorithm: null, forwarding: null },
    ...{ affinityTimeout: null, restricted: false, backends: noStates() },
    eligible: { external: 0, internal: 0 },
  };
}
