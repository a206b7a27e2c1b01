import { formatAddress } from '../lib/ip.ts';
import type { EndpointRow } from '../tables/endpoints.ts';
import type { EndpointSpec } from './plan.ts';

/**
 * Which interface stands for a name, by ifindex, as an earlier run of the daemon left it: the one
 * in the row of an endpoint that had the name. Only where its hooks are `attached` still: those
 * go with their interface, so it is the same one, whatever it is called by now.
 */
export function knownNames(
  endpoints: readonly EndpointSpec[],
  rows: readonly EndpointRow[],
  attached: ReadonlySet<number>,
): Map<string, number> {
  const names = new Map<string, number>();
  for (const { addr, endpoint } of rows) {
    if (!attached.has(endpoint.ifindex)) continue;
    const address = formatAddress(addr);
    const owner = endpoints.find(
      ({ id, addresses }) => id === endpoint.id && addresses.includes(address),
    );
    if (owner) names.set(owner.interface, endpoint.ifindex);
  }
  return names;
}
