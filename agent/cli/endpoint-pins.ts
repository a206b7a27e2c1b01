import { endpoint_flag } from '../abi/generated.ts';
import { readNetwork } from '../engine/ip-tool.ts';
import { FAMILIES, formatAddress } from '../lib/ip.ts';
import { listEndpoints } from '../tables/endpoints.ts';

/** An endpoint as listings show it. */
export interface ListedEndpoint {
  /** Only the daemon knows names. */
  name: string | null;
  interface: string | null;
  addresses: string[];
}

/** Endpoints as the datapath has them; the node's own addresses are none. */
export async function pinnedEndpoints(bpffs: string): Promise<ListedEndpoint[]> {
  const byId = new Map<number, { ifindex: number; addresses: string[] }>();
  for (const family of FAMILIES) {
    for (const { addr, endpoint } of listEndpoints(bpffs, family)) {
      if (endpoint.flags & endpoint_flag.ENDPOINT_HOST) continue;
      const known = byId.get(endpoint.id);
      if (known) known.addresses.push(formatAddress(addr));
      else byId.set(endpoint.id, { ifindex: endpoint.ifindex, addresses: [formatAddress(addr)] });
    }
  }
  if (byId.size === 0) return [];
  const { interfaces } = await readNetwork();
  const names = new Map(interfaces.map(({ ifindex, name }) => [ifindex, name]));
  return [...byId.values()].map(({ ifindex, addresses }) => ({
    name: null,
    interface: names.get(ifindex) ?? null,
    addresses,
  }));
}
