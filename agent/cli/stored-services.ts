import type { Config } from '../config/schema.ts';
import { readStoredServices } from '../daemon/service-store.ts';
import { FAMILIES, formatEndpoint, parseAddress } from '../lib/ip.ts';
import type { ServiceSource, ServiceSpec } from '../services/spec.ts';
import type { ServiceView } from '../services/view.ts';
import { indexServices, type KnownServices } from './known-services.ts';
import { leniently } from './leniently.ts';
import { type Frontend, readServices } from './service-pins.ts';

/**
 * The services that the datapath has and a file names, the configuration or what the daemon keeps
 * of those that were applied: for when no daemon answers. A service is known by an address that it
 * answers on. Throws E_NO_MAPS, E_LAYOUT.
 */
export async function storedServices({ services, state }: Config): Promise<KnownServices> {
  const owners = new Map<string, ServiceView>();
  const name = (specs: readonly ServiceSpec[], source: ServiceSource) => {
    for (const spec of specs) {
      const view = viewOf(spec, source);
      for (const place of placesOf(spec)) {
        if (!owners.has(place)) owners.set(place, view);
      }
    }
  };
  name(services, 'config');
  name(
    leniently(() => readStoredServices(state.runDir)),
    'api',
  );
  for (const family of FAMILIES) {
    const pinned = await readServices(state.bpffs, family);
    for (const { id, frontends } of pinned()) ownerOf(frontends, owners)?.ids.push(id);
  }
  const found = new Set([...owners.values()].filter(({ ids }) => ids.length > 0));
  for (const view of found) view.id = view.ids[0] ?? 0;
  return { ...indexServices([...found]), isComplete: false };
}

function ownerOf(
  frontends: readonly Frontend[],
  owners: ReadonlyMap<string, ServiceView>,
): ServiceView | undefined {
  const places = [...frontends.map(placeOf), ...frontends.map(portOf)];
  const place = places.find((place) => owners.has(place));
  return place === undefined ? undefined : owners.get(place);
}

/** One that has no address of its own answers on its node port alone. */
function placesOf({ frontends, nodePort: port }: ServiceSpec): string[] {
  if (frontends.length > 0 || port === undefined) return frontends.map(placeOf);
  return [portOf({ port, protocol: 'TCP' })];
}

function portOf({ port, protocol }: Pick<Frontend, 'port' | 'protocol'>): string {
  return `node port ${port}/${protocol}`;
}

function placeOf({ address, port, protocol }: Omit<Frontend, 'revNat' | 'external'>): string {
  return `${formatEndpoint(parseAddress(address).bytes, port)}/${protocol}`;
}

/** What is asked for; what the datapath makes of it is read from there. */
function viewOf(spec: ServiceSpec, source: ServiceSource): ServiceView {
  const { name, type, algorithm, forwarding, externalTrafficPolicy, internalTrafficPolicy } = spec;
  return {
    ...{ name, type, source, id: 0, ids: [], state: 'applied', problems: [] },
    ...{ algorithm, forwarding, externalTrafficPolicy, internalTrafficPolicy },
    ...{ frontends: [], backends: [], connections: 0, drops: {} },
    nodePort: spec.nodePort ?? null,
    sessionAffinity: spec.sessionAffinity?.timeout ?? null,
    sourceRanges: [...spec.sourceRanges],
  };
}
