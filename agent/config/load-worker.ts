import { parentPort, workerData } from 'node:worker_threads';
import { ConfigError } from '../lib/errors.ts';
import { loadConfig } from './load.ts';
import type { Config } from './schema.ts';

/** What became of the file; an error does not travel as one. */
export type LoadAnswer =
  | { config: Config }
  | { config?: undefined; message: string; hint: string | undefined };

parentPort?.postMessage(load());

function load(): LoadAnswer {
  try {
    return { config: loadConfig(workerData) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { message: error.message, hint: error.hint };
  }
}
