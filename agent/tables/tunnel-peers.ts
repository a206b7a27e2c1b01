import type { BpfMap } from '../kernel/map.ts';

/** IPv4 addresses of the other nodes: whose tunnelled packets are unpacked. */
export function readTunnelPeers(map: BpfMap): Uint8Array[] {
  return map.readAll().map(([address]) => address);
}

export function setTunnelPeer(map: BpfMap, address: Uint8Array): void {
  map.update(address, Uint8Array.of(1, 0, 0, 0));
}

/** False when there was none. */
export function deleteTunnelPeer(map: BpfMap, address: Uint8Array): boolean {
  return map.delete(address);
}
