import type { BpfMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { deleteDevice, readDevices, setDevice } from '../tables/devices.ts';
import { deleteEndpoint, readEndpoints, setEndpoint } from '../tables/endpoints.ts';
import { deletePrefix, readPrefixes, setPrefix } from '../tables/prefixes.ts';
import { deleteTunnelPeer, readTunnelPeers, setTunnelPeer } from '../tables/tunnel-peers.ts';
import type { FamilyTables } from './reconcile.ts';

/** The maps of one family that hold rows; `open` gives a map by the name of its pin. */
export function rowTables(family: Family, open: (name: string) => BpfMap): FamilyTables {
  const [devices, endpoints, prefixes] = [open('devices'), open('endpoints'), open('prefixes')];
  const peers = open('tunnel_peers');
  return {
    devices: {
      read: () => readDevices(devices, family),
      set: (row) => setDevice(devices, family, row),
      remove: ({ ifindex }) => void deleteDevice(devices, ifindex),
    },
    endpoints: {
      read: () => readEndpoints(endpoints, family),
      set: ({ addr, endpoint }) => setEndpoint(endpoints, family, addr, endpoint),
      remove: ({ addr }) => void deleteEndpoint(endpoints, addr),
    },
    prefixes: {
      read: () => readPrefixes(prefixes, family),
      set: (row) => setPrefix(prefixes, row),
      remove: ({ prefix }) => void deletePrefix(prefixes, prefix),
    },
    tunnelPeers: {
      read: () => readTunnelPeers(peers),
      set: (address) => setTunnelPeer(peers, address),
      remove: (address) => void deleteTunnelPeer(peers, address),
    },
  };
}
