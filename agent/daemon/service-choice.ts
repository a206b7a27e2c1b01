import type { Logger } from '../engine/logger.ts';
import { type Compiled, compile } from '../services/compile.ts';
import type { NodeFacts } from '../services/facts.ts';
import type { PreparedService } from '../services/prepare.ts';
import type { ServiceSpec } from '../services/spec.ts';
import type { ApplyResult } from '../services/view.ts';
import type { RequestedService } from './service-request.ts';

export type ServicesByName = Map<string, PreparedService>;

/** What there is before a request. */
export interface Present {
  configured: ReadonlyMap<string, PreparedService>;
  added: ServicesByName;
  facts: NodeFacts;
  compiled: Compiled | undefined;
}

/** What becomes of a request. */
export interface Choice {
  /** Those that were added, after the request. */
  added: ServicesByName;
  compiled: Compiled;
  isChanged: boolean;
  /** Those that are there as they were sent. */
  known: ReadonlySet<RequestedService>;
  results: Omit<ApplyResult, 'id'>[];
}

export function byName(services: readonly PreparedService[]): ServicesByName {
  return new Map(services.map((service) => [service.spec.name, service]));
}

/**
 * Takes over as much of a request as can be served: what is rejected leaves what was there under
 * its name, and takes nothing from others.
 */
export function choose(requests: readonly RequestedService[], present: Present): Choice {
  const { wanted, reasons } = readable(requests, present);
  const byService = new Map(requests.map((request) => [request.service, request]));
  let compiled = attempt(present, wanted);
  for (;;) {
    const bad = [...wanted].filter(([, service]) => compiled.rejected.has(service));
    if (bad.length === 0) break;
    for (const [name, service] of bad) {
      const request = byService.get(service);
      if (request) reasons.set(request, compiled.rejected.get(service) ?? '');
      wanted.delete(name);
    }
    compiled = attempt(present, wanted);
  }
  const added = new Map([...present.added, ...wanted]);
  return {
    ...{ compiled, added, isChanged: wanted.size > 0 },
    known: new Set(requests.filter((request) => !reasons.has(request))),
    results: requests.map((request) => {
      const there = added.get(request.name);
      // what is there as it was sent may not be served all the same
      const reason = reasons.get(request) ?? (there && compiled.rejected.get(there));
      return resultOf(request, reason, wanted, present.added);
    }),
  };
}

/** Those that are to be changed, and why some cannot be whatever the others are. */
function readable(requests: readonly RequestedService[], { configured, added }: Present) {
  const reasons = new Map<RequestedService, string>();
  const wanted: ServicesByName = new Map();
  const seen = new Set<string>();
  for (const request of requests) {
    const { name, service, problem } = request;
    if (problem !== undefined) reasons.set(request, problem);
    else if (configured.has(name)) reasons.set(request, 'it comes from the configuration');
    else if (seen.has(name)) reasons.set(request, 'its name stands twice in the request');
    else if (service && !isSame(service.spec, added.get(name))) wanted.set(name, service);
    seen.add(name);
  }
  return { wanted, reasons };
}

/** What is asked for comes last: where it contradicts what is there, it is what is rejected. */
function attempt(
  { configured, added, facts, compiled }: Present,
  wanted: ReadonlyMap<string, PreparedService>,
): Compiled {
  const staying = Array.from(added).filter(([name]) => !wanted.has(name));
  const services = [
    ...configured.values(),
    ...staying.map(([, service]) => service),
    ...wanted.values(),
  ];
  return compile(services, facts, compiled);
}

function resultOf(
  request: RequestedService,
  reason: string | undefined,
  wanted: ReadonlyMap<string, unknown>,
  added: ServicesByName,
): Omit<ApplyResult, 'id'> {
  const { name } = request;
  if (reason !== undefined) return { name, result: 'rejected', problems: [reason] };
  if (!wanted.has(name)) return { name, result: 'unchanged', problems: [] };
  return { name, result: added.has(name) ? 'updated' : 'created', problems: [] };
}

/** Whether a service is there as `spec` asks for it. */
export function isSame(spec: ServiceSpec, there: PreparedService | undefined): boolean {
  return there !== undefined && JSON.stringify(there.spec) === JSON.stringify(spec);
}

/** Names of those added that give way to services of the configuration. */
export function overruled(
  configured: ServicesByName,
  added: ServicesByName,
  logger: Logger,
): string[] {
  const names = [...configured.keys()].filter((name) => added.has(name));
  for (const service of names) {
    logger.warn({ service }, 'service gave way to one of the configuration');
  }
  return names;
}
