import type { Service, ServiceKey } from '../abi/generated.ts';
import { layouts, service_flag, service_scope } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { formatAddress } from '../lib/ip.ts';
import { noStates, type StateCounts } from '../tables/backend-states.ts';
import { openFamilyMap } from '../tables/open.ts';
import { orderBy, type PackedRows, readPacked } from '../tables/packed.ts';
import { readBackends } from './backend-pins.ts';
import { protocolName } from './names.ts';

const { SERVICE_ANY_PORT, SERVICE_FROM_OUTSIDE, SERVICE_TWO_SCOPES } = service_flag;
/** Above every `rev_nat_index`. */
const SERVICE_RANK = 2 ** 16;

/** Where a service answers. */
export interface Frontend {
  address: string;
  port: number;
  protocol: string;
  /** `RevNAT` of its connections. */
  revNat: number;
  /** Whether the network may use it. */
  external: boolean;
}

/** How many backends take new connections, by who asks: the network, or a pod of this node. */
export interface Eligible {
  external: number;
  internal: number;
}

/** A service as the datapath has it: one for each family and protocol of its frontends. */
export interface PinnedService {
  id: number;
  family: Family;
  protocol: string;
  frontends: Frontend[];
  /** enum service_flag, of its rows for everybody */
  flags: number;
  affinitySeconds: number;
  eligible: Eligible;
  states: StateCounts;
}

/** The services of a family, read once: in the order of their numbers. Throws E_NO_MAPS, E_LAYOUT. */
export async function readServices(
  bpffs: string,
  family: Family,
): Promise<() => Generator<PinnedService, void, undefined>> {
  const layout = { key: layouts[family].service_key, value: layouts[family].service };
  using map = openFamilyMap(bpffs, family, 'services', layout);
  const rows = await readPacked(map, layout);
  const states = (await readBackends(bpffs, family)).states();
  return () => servicesOf(family, rows, (id) => states.get(id) ?? noStates());
}

function* servicesOf(
  family: Family,
  rows: PackedRows<ServiceKey, Service>,
  statesOf: (id: number) => StateCounts,
): Generator<PinnedService, void, undefined> {
  let service: PinnedService | undefined;
  for (const number of orderBy(rows, (_, row) => row.id * SERVICE_RANK + row.rev_nat_index)) {
    const { key, value } = rows.at(number);
    if (value.flags & SERVICE_ANY_PORT) continue;
    if (service && service.id !== value.id) yield service;
    if (service?.id !== value.id) {
      const [id, protocol] = [value.id, protocolName(key.proto)];
      service = emptyService({ id, family, protocol, states: statesOf(id) });
    }
    addRow(service, key, value);
  }
  if (service) yield service;
}

function emptyService(
  identity: Pick<PinnedService, 'id' | 'family' | 'protocol' | 'states'>,
): PinnedService {
  const eligible = { external: 0, internal: 0 };
  return { ...identity, frontends: [], flags: 0, affinitySeconds: 0, eligible };
}

/** A frontend has a row for everybody, or one for each scope. */
function addRow(service: PinnedService, key: ServiceKey, row: Service): void {
  if (key.scope === service_scope.SERVICE_INTERNAL) {
    service.eligible.internal = row.backends;
    return;
  }
  service.flags = row.flags;
  service.affinitySeconds = row.affinity_timeout;
  service.eligible.external = row.backends;
  if ((row.flags & SERVICE_TWO_SCOPES) === 0) service.eligible.internal = row.backends;
  service.frontends.push({
    address: formatAddress(key.addr),
    port: key.port,
    protocol: protocolName(key.proto),
    revNat: row.rev_nat_index,
    external: (row.flags & SERVICE_FROM_OUTSIDE) !== 0,
  });
}
