import { FAMILIES } from '../lib/ip.ts';
import type { KnownServices } from './known-services.ts';
import { readServices } from './service-pins.ts';
import {
  describeAbsent,
  describeInvalid,
  describeService,
  type ListedService,
} from './service-view.ts';

/** Those of the datapath, then those that are asked for and not there; may be gone through twice. */
export async function listServices(
  bpffs: string,
  known: KnownServices | undefined,
): Promise<() => Generator<ListedService, void, undefined>> {
  const pinned = await Promise.all(FAMILIES.map((family) => readServices(bpffs, family)));
  return function* services() {
    const seen = new Set<string>();
    for (const all of pinned) {
      for (const service of all()) {
        const owner = known?.byId(service.id);
        if (owner) seen.add(owner.name);
        yield describeService(service, owner);
      }
    }
    for (const service of known?.all ?? []) {
      if (!seen.has(service.name)) yield describeAbsent(service);
    }
    yield* (known?.invalid ?? []).values().map(describeInvalid);
  };
}
