import type { RejectedService } from '../config/schema.ts';
import type { Logger } from '../engine/logger.ts';
import { type PreparedService, prepareService } from '../services/prepare.ts';
import type { ServiceSpec } from '../services/spec.ts';
import { byName, isSame, type ServicesByName } from './service-choice.ts';

/** Services of the configuration, and those of it that are not valid. */
export interface ConfiguredServices {
  services: readonly ServiceSpec[];
  rejectedServices?: readonly RejectedService[];
}

/** What is asked for by the configuration. */
export interface Configured {
  services: ServicesByName;
  /** Those that are not valid, where nothing of their names was there. */
  invalid: readonly RejectedService[];
  /** By name of a service that is as it was: what is wrong with what it was to become. */
  stale: ReadonlyMap<string, string>;
}

/**
 * What the configuration asks for after what was there `before`: a service that is no longer
 * valid stays as it was. It comes last: it takes nothing from those that are.
 */
export function settleConfigured(
  { services, rejectedServices = [] }: ConfiguredServices,
  before: ServicesByName,
): Configured {
  const wanted = byName(keepSame(services, before));
  const staying: ServicesByName = new Map();
  const stale = new Map<string, string>();
  const stays = (name: string, reason: string) => {
    const earlier = before.get(name);
    if (!earlier || earlier.problem !== undefined) return false;
    staying.set(name, earlier);
    stale.set(name, reason);
    return true;
  };
  for (const [name, { problem }] of wanted) {
    if (problem !== undefined && stays(name, problem)) wanted.delete(name);
  }
  const invalid = rejectedServices.filter(
    ({ name, reason }) => wanted.has(name) || !stays(name, reason),
  );
  return { services: new Map([...wanted, ...staying]), invalid, stale };
}

export function logConfigured({ invalid, stale }: Configured, logger: Logger): void {
  for (const { name: service, reason } of invalid) {
    logger.warn({ service, reason }, 'service rejected');
  }
  for (const [service, reason] of stale) {
    logger.warn({ service, reason }, 'service rejected; the one before stays');
  }
}

function keepSame(next: readonly ServiceSpec[], before: ServicesByName): PreparedService[] {
  return next.map((spec) => {
    const there = before.get(spec.name);
    return there && isSame(spec, there) ? there : prepareService(spec);
  });
}
