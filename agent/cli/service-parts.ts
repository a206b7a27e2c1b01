import { layouts } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { FAMILIES, formatPrefix } from '../lib/ip.ts';
import { openFamilyMap } from '../tables/open.ts';
import type { ServiceCounts } from '../tables/service-counts.ts';
import { sourceRangeCodec } from '../tables/source-ranges.ts';
import { type PinnedBackend, readBackends } from './backend-pins.ts';
import { type BackendTable, countSlots, pinnedTable } from './backend-table.ts';
import { describeBackend } from './backend-view.ts';
import type { KnownServices } from './known-services.ts';
import { pinnedCounts } from './service-counts.ts';
import type { ServicePart, SharingBackend } from './service-detail.ts';
import { type PinnedService, readServices } from './service-pins.ts';
import { describeService } from './service-view.ts';

const ROW = { size: 4, fields: {} };

/** What the datapath has of the services with these numbers. Throws E_NO_MAPS, E_LAYOUT. */
export async function readParts(
  bpffs: string,
  ids: readonly number[],
  known: KnownServices | undefined,
): Promise<ServicePart[]> {
  const parts: ServicePart[] = [];
  for (const family of FAMILIES) {
    const all = await readServices(bpffs, family);
    const services = all()
      .filter(({ id }) => ids.includes(id))
      .toArray();
    if (services.length === 0) continue;
    const counts = await pinnedCounts(bpffs, family);
    const backends = (await readBackends(bpffs, family))
      .all()
      .filter(({ serviceId }) => ids.includes(serviceId))
      .toArray();
    for (const service of services) {
      const own = backends.filter(({ serviceId }) => serviceId === service.id);
      parts.push(partOf(bpffs, service, own, counts, known));
    }
  }
  return parts;
}

function partOf(
  bpffs: string,
  pinned: PinnedService,
  backends: readonly PinnedBackend[],
  counts: ServiceCounts,
  known: KnownServices | undefined,
): ServicePart {
  const { id, family } = pinned;
  const service = describeService(pinned, known?.byId(id));
  const external = pinnedTable(bpffs, family, id, 'external');
  const internal = pinnedTable(bpffs, family, id, 'internal') ?? external;
  const [shareOf, shareOfPods] = [sharesIn(external), sharesIn(internal)];
  return {
    service,
    backends: backends.map(
      (backend): SharingBackend => ({
        ...describeBackend(backend, known, counts.backendConnections.get(backend.id) ?? 0),
        share: { external: shareOf(backend.id), internal: shareOfPods(backend.id) },
      }),
    ),
    sourceRanges: service.restricted ? readSourceRanges(bpffs, family, id) : [],
    connections: counts.connections.get(id) ?? 0,
    drops: counts.drops.get(id) ?? {},
  };
}

function sharesIn(table: BackendTable | undefined): (id: number) => number {
  if (!table) return () => 0;
  const slots = countSlots(table);
  return (id) => (100 * (slots.get(id) ?? 0)) / table.length;
}

function readSourceRanges(bpffs: string, family: Family, service: number): string[] {
  const codec = sourceRangeCodec(family);
  const layout = { key: layouts[family].source_range_key, value: ROW };
  using map = openFamilyMap(bpffs, family, 'source_ranges', layout);
  return map
    .readAll()
    .map(([key, value]) => codec.read(key, 0, value, 0))
    .filter(({ serviceId }) => serviceId === service)
    .map(({ prefix }) => formatPrefix(prefix));
}
