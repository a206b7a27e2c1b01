import type { Backend } from '../abi/generated.ts';
import { backend_mask, layouts } from '../abi/generated.ts';
import type { Layout } from '../abi/layout.ts';
import type { Family } from '../lib/ip.ts';
import { formatAddress } from '../lib/ip.ts';
import { noStates, type StateCounts } from '../tables/backend-states.ts';
import { BACKEND_STATES, type BackendState } from '../tables/names.ts';
import { openFamilyMap } from '../tables/open.ts';
import { orderBy, type PackedRows, readPacked } from '../tables/packed.ts';
import { protocolName } from './names.ts';

const ID: Layout<{ id: number }> = {
  size: 4,
  fields: { id: { offset: 0, size: 4, kind: 'u32' } },
};
/** What orders backends of one service stays below it. */
const SERVICE_RANK = 2 ** 32;

/** A backend as the datapath has it. */
export interface PinnedBackend {
  id: number;
  family: Family;
  serviceId: number;
  address: string;
  port: number;
  protocol: string;
  state: BackendState;
}

/** The backends of a family, read once: by service, in the order of their numbers. */
export interface PinnedBackends {
  all(): Generator<PinnedBackend, void, undefined>;
  /** By service id. */
  states(): Map<number, StateCounts>;
}

/** Throws E_NO_MAPS, E_LAYOUT. */
export async function readBackends(bpffs: string, family: Family): Promise<PinnedBackends> {
  const layout = { key: ID, value: layouts[family].backend };
  using map = openFamilyMap(bpffs, family, 'backends', layout);
  return backendsOf(family, await readPacked(map, layout));
}

function backendsOf(family: Family, rows: PackedRows<{ id: number }, Backend>): PinnedBackends {
  return {
    *all() {
      const order = orderBy(rows, ({ id }, { service_id }) => service_id * SERVICE_RANK + id);
      for (const number of order) {
        const { key, value } = rows.at(number);
        yield describe(family, key.id, value);
      }
    },
    states() {
      const counts = new Map<number, StateCounts>();
      for (let i = 0; i < rows.count; i++) {
        const { service_id, state } = rows.at(i).value;
        const own = counts.get(service_id) ?? noStates();
        own[stateName(state)]++;
        counts.set(service_id, own);
      }
      return counts;
    },
  };
}

function describe(family: Family, id: number, backend: Backend): PinnedBackend {
  const { addr, port, proto, state, service_id: serviceId } = backend;
  const protocol = protocolName(proto);
  return {
    id,
    family,
    serviceId,
    address: formatAddress(addr),
    port,
    protocol,
    state: stateName(state),
  };
}

/** A state that this version does not know takes no new connections either. */
function stateName(state: number): BackendState {
  return BACKEND_STATES[state & backend_mask.BACKEND_STATE] ?? 'maintenance';
}
