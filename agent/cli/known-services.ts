import type { RejectedService } from '../config/schema.ts';
import { type ErrorCode, SekishoError } from '../lib/errors.ts';
import type { ServiceView } from '../services/view.ts';
import { agentClient } from './client.ts';

const SILENCE: readonly ErrorCode[] = ['E_NOT_RUNNING', 'E_NOT_FOUND'];
const NOTE =
  'sekisho: note: the agent does not answer: names, types, weights and what it rejected are left out\n';

/** What the daemon says of services. */
export interface KnownServices {
  all: readonly ServiceView[];
  /** Those of the configuration that are not valid. */
  invalid: readonly RejectedService[];
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
  const known = await findServices(runDir);
  if (!known) process.stderr.write(NOTE);
  return known;
}

/** The same without a word. An agent of a version without services knows nothing either. */
export async function findServices(runDir: string): Promise<KnownServices | undefined> {
  try {
    const { services, invalid } = await agentClient(runDir).get<Answer>('/v1/services');
    return indexServices(services, invalid);
  } catch (error) {
    const isSilent = error instanceof SekishoError && SILENCE.includes(error.code);
    if (isSilent) return undefined;
    throw error;
  }
}

interface Answer {
  services: ServiceView[];
  invalid: RejectedService[];
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
    invalid,
    byId: (id) => byId.get(id),
    byName: (name) => byName.get(name),
    weightOf: (backend) => weights.get(backend),
  };
}
