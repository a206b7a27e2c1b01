import { SekishoError } from '../lib/errors.ts';
import type { ServiceView } from '../services/view.ts';
import type { KnownServices } from './known-services.ts';

/** A service that was named on the command line. */
export interface ChosenService {
  /** Its numbers in the datapath; empty of one that is not there. */
  ids: readonly number[];
  known: ServiceView | undefined;
}

/**
 * Finds a service by its name, or by a number that listings show. Throws E_NOT_FOUND;
 * E_NOT_RUNNING where only the daemon could tell.
 */
export function chooseService(word: string, known: KnownServices): ChosenService {
  const named = known.byName(word);
  if (named) return { ids: named.ids, known: named };
  if (/^[1-9]\d{0,9}$/.test(word)) return { ids: [Number(word)], known: known.byId(Number(word)) };
  const invalid = known.invalid.find(({ name }) => name === word);
  if (invalid) {
    throw new SekishoError('E_NOT_FOUND', `service ${word} is rejected: ${invalid.reason}`);
  }
  if (known.isComplete) throw noService(word);
  throw new SekishoError('E_NOT_RUNNING', `nobody knows which service is called "${word}"`, {
    hint: 'start the agent, or give the number of the service: sekisho service list',
  });
}

export function noService(word: string): SekishoError {
  return new SekishoError('E_NOT_FOUND', `there is no service "${word}"`, {
    hint: 'sekisho service list shows them',
  });
}
