import { decode, encode } from '../abi/codec.ts';
import { type Device, layouts } from '../abi/generated.ts';
import type { BpfMap } from '../kernel/map.ts';
import type { Family } from '../lib/ip.ts';
import { openFamilyMap } from './open.ts';

/** A device and what leaves there: as `addr`, with ports from `port_min` to `port_max`. */
export interface DeviceRow extends Device {
  ifindex: number;
}

/** The pinned devices. Throws E_NO_MAPS, E_LAYOUT. */
export function listDevices(bpffs: string, family: Family): DeviceRow[] {
  const value = layouts[family].device;
  using map = openFamilyMap(bpffs, family, 'devices', { key: 4, value });
  return readDevices(map, family);
}

export function readDevices(map: BpfMap, family: Family): DeviceRow[] {
  const layout = layouts[family].device;
  return map.readAll().map(([key, value]) => ({
    ifindex: new DataView(key.buffer, key.byteOffset).getUint32(0, true),
    ...decode(layout, value),
  }));
}

export function setDevice(map: BpfMap, family: Family, { ifindex, ...device }: DeviceRow): void {
  map.update(indexKey(ifindex), encode(layouts[family].device, device));
}

/** False when there was none. */
export function deleteDevice(map: BpfMap, ifindex: number): boolean {
  return map.delete(indexKey(ifindex));
}

function indexKey(ifindex: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(ifindex).buffer);
}
