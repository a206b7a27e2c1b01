import type { Config, RejectedService } from '../config/schema.ts';
import { type ErrorCode, SekishoError } from '../lib/errors.ts';
import type { ServiceView } from '../services/view.ts';
import { agentClient } from './client.ts';
import { indexServices, type KnownServices } from './known-services.ts';
import { storedServices } from './stored-services.ts';

const SILENCE: readonly ErrorCode[] = ['E_NOT_RUNNING', 'E_NOT_FOUND'];
const NOTE =
  'sekisho: note: the agent does not answer: names are those of its files; weights and what it rejected are left out\n';

/**
 * Asks the daemon. The datapath's maps hold no names, no weights, and nothing that was rejected:
 * without the daemon names are taken from its files, and the others left out, which a line on
 * stderr says.
 */
export async function askServices(config: Config): Promise<KnownServices> {
  const known = await findServices(config.state.runDir);
  if (known) return known;
  process.stderr.write(NOTE);
  return storedServices(config);
}

/** What the daemon knows, without a word. An agent of a version without services knows nothing either. */
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
