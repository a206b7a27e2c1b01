import { SekishoError } from '../lib/errors.ts';
import type { ServiceView } from '../services/view.ts';
import { agentClient } from './client.ts';

/** What the daemon says of services. */
export interface KnownServices {
  all: readonly ServiceView[];
  /** By the number that the datapath knows it as. */
  byId(id: number): ServiceView | undefined;
  byName(name: string): ServiceView | undefined;
  /** Of a backend, by its number. */
  weightOf(backend: number): number | undefined;
}

/**
 * Asks the daemon. The datapath's maps hold no names, no weights, and nothing that was rejected:
 * without the daemon these are left out, which a line on stderr says.
 */
export async function askServices(runDir: string): Promise<KnownServices | undefined> {
  try {
    const { services } = await agentClient(runDir).get<{ services: ServiceView[] }>('/v1/services');
    return indexServices(services);
  } catch (error) {
    if (!(error instanceof SekishoError && error.code === 'E_NOT_RUNNING')) throw error;
    process.stderr.write(
      'sekisho: note: the agent does not answer: names, types, weights and what it rejected are left out\n',
    );
    return undefined;
  }
}

export function indexServices(services: readonly ServiceView[]): KnownServices {
  const byId = new Map(services.flatMap((service) => service.ids.map((id) => [id, service])));
  const byName = new Map(services.map((service) => [service.name, service]));
  const weights = new Map<number, number>();
  for (const { backends } of services)
    for (const { id, weight } of backends) weights.set(id, weight);
  return {
    all: services,
    byId: (id) => byId.get(id),
    byName: (name) => byName.get(name),
    weightOf: (backend) => weights.get(backend),
  };
}
