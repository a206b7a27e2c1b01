import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { serviceSchema } from '../config/service-schema.ts';
import { SekishoError } from '../lib/errors.ts';
import type { ServiceSpec } from '../services/spec.ts';
import { readStored } from './stored.ts';

const FILE = 'services.json';
const WHAT = 'services that were applied while running';

/** As `ServiceSpec` has it: the timeout in seconds. */
const storedSchema = z.object({
  version: z.literal(1),
  services: z.array(
    serviceSchema.extend({ sessionAffinity: z.object({ timeout: z.number() }).optional() }),
  ),
});

/** The services that were applied over the socket, on disk after every change. */
export interface ServiceStore {
  /** As an earlier run left them. */
  before: readonly ServiceSpec[];
  /** In one step: a reader, or a crash, sees the old file or the new. One call at a time. */
  save(services: Iterable<ServiceSpec>): Promise<void>;
}

/** Reads `<runDir>/services.json`. Throws E_LAYOUT when it cannot be understood. */
export function readStoredServices(runDir: string): readonly ServiceSpec[] {
  return readStored(join(runDir, FILE), storedSchema, WHAT)?.services ?? [];
}

/** Opens the store in `<runDir>/services.json`. Throws E_LAYOUT when it cannot be understood. */
export function openServiceStore(runDir: string): ServiceStore {
  const path = join(runDir, FILE);
  const texts = new WeakMap<ServiceSpec, string>();
  const textOf = (spec: ServiceSpec) => {
    const text = texts.get(spec) ?? JSON.stringify(spec);
    texts.set(spec, text);
    return text;
  };
  return {
    before: readStoredServices(runDir),
    async save(services) {
      const lines = Array.from(services, textOf).join(',\n');
      try {
        await replace(path, `{"version":1,"services":[\n${lines}\n]}\n`);
      } catch (cause) {
        const { code, message } = cause as NodeJS.ErrnoException;
        throw new SekishoError('E_KERNEL', `cannot write ${path}: ${code ?? message}`, { cause });
      }
    },
  };
}

async function replace(path: string, text: string): Promise<void> {
  await using file = await open(`${path}.new`, 'w', 0o600);
  await file.chmod(0o600);
  await file.writeFile(text);
  await file.sync();
  await rename(`${path}.new`, path);
}
