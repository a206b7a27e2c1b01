import { once } from 'node:events';
import { statSync } from 'node:fs';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { SekishoError } from '../lib/errors.ts';
import { DEFAULT_CONFIG_FILE, loadConfig } from './load.ts';
import type { LoadAnswer } from './load-worker.ts';
import type { Config } from './schema.ts';

/** From so many bytes on others would notice. */
const LARGE = 64 * 1024;

/**
 * Like `loadConfig`, but a large file, which can take seconds, is read on a thread of its own.
 * Throws E_CONFIG.
 */
export async function loadConfigAside(file: string | undefined): Promise<Config> {
  if (sizeOf(file ?? DEFAULT_CONFIG_FILE) < LARGE) return loadConfig(file);
  const source = `load-worker${extname(import.meta.filename)}`;
  const worker = new Worker(new URL(source, import.meta.url), { workerData: file });
  const [answer]: LoadAnswer[] = await once(worker, 'message');
  if (answer?.config) return answer.config;
  throw new SekishoError('E_CONFIG', answer?.message ?? 'no answer', { hint: answer?.hint });
}

/** 0 of one that cannot be read: whoever reads it says why. */
function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}
