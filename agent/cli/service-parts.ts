import { layouts } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { FAMILIES, formatPrefix } from '../lib/ip.ts';
import { openFamilyMap } from '../tables/open.ts';
import { type PinnedBackend, readBackends } from './backend-pins.ts';
import { type BackendTable, countSlots, readBackendTable } from './backend-table.ts';
import { describeBackend } from './backend-view.ts';
import type { KnownServices } from './known-services.ts';
import { readCounts, type ServiceCounts } from './service-counts.ts';
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
    const services = [...all()].filter(({ id }) => ids.includes(id));
    if (services.length === 0) continue;
    const counts = await readCounts(bpffs, family);
    const backends = [...(await readBackends(bpffs, family)).all()];
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
  const external = readBackendTable(bpffs, family, id, 'external');
  const internal = readBackendTable(bpffs, family, id, 'internal') ?? external;
  const [shareOf, shareOfPods] = [sharesIn(external), sharesIn(internal)];
  return {
    service,
    backends: backends.map(
      (backend): SharingBackend => ({
        ...describeBackend(backend, known, counts.backendConnections(backend.id)),
        share: { external: shareOf(backend.id), internal: shareOfPods(backend.id) },
      }),
    ),
    sourceRanges: service.restricted ? readSourceRanges(bpffs, family, id) : [],
    connections: counts.connections(id),
    drops: counts.drops(id),
  };
}

function sharesIn(table: BackendTable | undefined): (id: number) => number {
  if (!table) return () => 0;
  const slots = countSlots(table);
  return (id) => (100 * (slots.get(id) ?? 0)) / table.length;
}

/** In a key the number of the service, in network order, is the head of the prefix. */
function readSourceRanges(bpffs: string, family: Family, service: number): string[] {
  const layout = layouts[family].source_range_key;
  const { prefixlen, service_id, addr } = layout.fields;
  using map = openFamilyMap(bpffs, family, 'source_ranges', { key: layout, value: ROW });
  const ranges: string[] = [];
  for (const [key] of map.readAll()) {
    const view = new DataView(key.buffer, key.byteOffset);
    if (view.getUint32(service_id.offset) !== service) continue;
    const length = view.getUint32(prefixlen.offset, true) - 8 * service_id.size;
    const bytes = key.subarray(addr.offset, addr.offset + addr.size);
    ranges.push(formatPrefix({ family, bytes, length }));
  }
  return ranges;
}
