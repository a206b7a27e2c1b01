import { formatPrefix } from '../lib/ip.ts';
import { noStates, type StateCounts } from '../tables/backend-states.ts';
import type { ServiceCounts } from '../tables/service-counts.ts';
import type { Compiled } from './compile.ts';
import type { PartIds } from './ids.ts';
import { type Part, partsOf } from './parts.ts';
import type { PreparedService } from './prepare.ts';
import type { ServiceSource } from './spec.ts';
import type { BackendView, FrontendView, ServiceView } from './view.ts';

/** What is known of services when someone asks. */
export interface Known {
  compiled: Compiled | undefined;
  /** Of the parts that are in the datapath. */
  ids: ReadonlyMap<Part, PartIds>;
  counts: ServiceCounts;
}

/** A service as the API shows it. */
export function viewService(
  service: PreparedService,
  source: ServiceSource,
  known: Known,
): ServiceView {
  const { spec, ranges } = service;
  const { compiled, ids, counts } = known;
  const parts = partsFor(service, compiled);
  const applied = parts.map((part) => ids.get(part)).filter((own) => own !== undefined);
  const serviceIds = applied.map(({ service }) => service);
  const rejected = compiled?.rejected.get(service);
  const state = rejected ? 'rejected' : stateOf(parts, applied);
  return {
    ...{ name: spec.name, type: spec.type, source, id: serviceIds[0] ?? 0, ids: serviceIds, state },
    problems: rejected ? [rejected] : [],
    frontends: parts.flatMap((part) => frontendViews(part, ids.get(part))),
    nodePort: spec.nodePort ?? null,
    backends: parts.flatMap((part) => backendViews(part, known)),
    algorithm: spec.algorithm,
    externalTrafficPolicy: spec.externalTrafficPolicy,
    internalTrafficPolicy: spec.internalTrafficPolicy,
    sessionAffinity: spec.sessionAffinity?.timeout ?? null,
    forwarding: spec.forwarding,
    sourceRanges: ranges.map(formatPrefix),
    connections: serviceIds.reduce((sum, id) => sum + (counts.connections.get(id) ?? 0), 0),
    drops: dropsOf(serviceIds, counts),
  };
}

/** A service as metrics tell it. */
export interface ServiceSample {
  name: string;
  /** How many backends are in each state, those that none is in included. */
  backends: StateCounts;
  connections: number;
  drops: ServiceView['drops'];
  /** New connections by the backend's address and port, of those that had some. */
  perBackend: Map<string, number>;
}

/** What is counted of a service, its parts together. */
export function sampleService(service: PreparedService, known: Known): ServiceSample {
  const { compiled, ids, counts } = known;
  const backends = noStates();
  for (const { state } of service.backends) backends[state]++;
  const given = (compiled?.parts.get(service) ?? []).flatMap((part) => ids.get(part) ?? []);
  const perBackend = new Map<string, number>();
  for (const own of given) {
    for (const [i, { text }] of service.backends.entries()) {
      const count = counts.backendConnections.get(own.backends[i] ?? 0);
      if (count !== undefined) perBackend.set(text, (perBackend.get(text) ?? 0) + count);
    }
  }
  const serviceIds = given.map((own) => own.service);
  const connections = serviceIds.reduce((sum, id) => sum + (counts.connections.get(id) ?? 0), 0);
  return {
    name: service.spec.name,
    backends,
    connections,
    drops: dropsOf(serviceIds, counts),
    perBackend,
  };
}

/** Those of a rejected service as they would be. */
function partsFor(service: PreparedService, compiled: Compiled | undefined): readonly Part[] {
  const parts = compiled?.parts.get(service);
  if (parts) return parts;
  const isWhole = !service.problem && compiled !== undefined;
  return isWhole ? partsOf(service, compiled.facts) : [];
}

function stateOf(parts: readonly Part[], applied: readonly PartIds[]): ServiceView['state'] {
  return parts.length > 0 && applied.length === parts.length ? 'applied' : 'pending';
}

function frontendViews(part: Part, own: PartIds | undefined): FrontendView[] {
  return part.frontends.map(({ address, port, kind, external }, i) => ({
    ...{ address, port, protocol: part.protocol, kind },
    revNatIndex: own?.revNat[i] ?? 0,
    serviceId: own?.service ?? 0,
    scope: part.isSplit ? 'split' : 'both',
    external,
  }));
}

function backendViews(part: Part, { ids, counts }: Known): BackendView[] {
  const own = ids.get(part);
  return part.service.backends.map(({ address, port, weight, state }, i) => {
    const id = own?.backends[i] ?? 0;
    return {
      ...{ id, service: part.service.spec.name, serviceId: own?.service ?? 0, address, port },
      ...{ protocol: part.protocol, weight, state, local: part.local[i] ?? false },
      connections: counts.backendConnections.get(id) ?? 0,
    };
  });
}

function dropsOf(ids: readonly number[], { drops }: ServiceCounts): ServiceView['drops'] {
  const total: ServiceView['drops'] = {};
  for (const id of ids) {
    for (const [reason, count] of Object.entries(drops.get(id) ?? {})) {
      const name = reason as keyof typeof total;
      total[name] = (total[name] ?? 0) + count;
    }
  }
  return total;
}
