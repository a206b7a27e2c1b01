import { endpoint_flag } from '../abi/generated.ts';
import type { StoredEndpoint } from '../daemon/endpoint-store.ts';
import { readNetwork } from '../engine/ip-tool.ts';
import { FAMILIES, formatAddress } from '../lib/ip.ts';
import { listEndpoints } from '../tables/endpoints.ts';

/** An endpoint as listings show it. What only the daemon knows is null without it. */
export interface ListedEndpoint {
  id: number;
  name: string | null;
  interface: string | null;
  /** 0 while its interface is not there. */
  ifindex: number;
  addresses: string[];
  source: 'config' | 'api' | null;
  state: 'ready' | 'no_interface' | 'unfit' | null;
}

/**
 * Endpoints as the datapath has them, with the names that they had as `stored`; the node's own
 * addresses are none.
 */
export async function pinnedEndpoints(
  bpffs: string,
  stored: readonly StoredEndpoint[],
): Promise<ListedEndpoint[]> {
  const known = new Map(stored.map((endpoint) => [endpoint.id, endpoint]));
  const byId = new Map<number, ListedEndpoint>();
  for (const family of FAMILIES) {
    for (const { addr, endpoint } of listEndpoints(bpffs, family)) {
      const { id, ifindex, flags } = endpoint;
      if (flags & endpoint_flag.ENDPOINT_HOST) continue;
      const { name = null, source = null } = known.get(id) ?? {};
      const unknown = { interface: null, state: null };
      const listed = byId.get(id) ?? { id, name, source, ifindex, ...unknown, addresses: [] };
      listed.addresses.push(formatAddress(addr));
      byId.set(id, listed);
    }
  }
  if (byId.size === 0) return [];
  const { interfaces } = await readNetwork();
  for (const endpoint of byId.values()) {
    const found = interfaces.find(({ ifindex }) => ifindex === endpoint.ifindex);
    endpoint.interface = found?.name ?? null;
  }
  return [...byId.values()].sort((a, b) => a.id - b.id);
}
