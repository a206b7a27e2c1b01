import type { RejectedService } from '../config/schema.ts';
import type { ServiceView } from '../services/view.ts';

/** What is known of services beside what the datapath has of them. */
export interface KnownServices {
  all: readonly ServiceView[];
  /** Whether the daemon told it: a name that is not here is nobody's. */
  isComplete: boolean;
  /** Those of the configuration that are not valid. */
  invalid: readonly RejectedService[];
  /** By the number that the datapath knows it as. */
  byId(id: number): ServiceView | undefined;
  byName(name: string): ServiceView | undefined;
  /** Of a backend, by its number. */
  weightOf(backend: number): number | undefined;
}

export function indexServices(
  services: readonly ServiceView[],
  invalid: readonly RejectedService[] = [],
): KnownServices {
  const byId = new Map(services.flatMap((service) => service.ids.map((id) => [id, service])));
  const byName = new Map(services.map((service) => [service.name, service]));
  const weights = new Map<number, number>();
  for (const { backends } of services)
    for (const { id, weight } of backends) weights.set(id, weight);
  return {
    all: services,
    isComplete: true,
    invalid,
    byId: (id) => byId.get(id),
    byName: (name) => byName.get(name),
    weightOf: (backend) => weights.get(backend),
  };
}
