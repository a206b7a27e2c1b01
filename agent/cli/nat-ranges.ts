import { device_flag } from '../abi/generated.ts';
import { FAMILIES, formatAddress } from '../lib/ip.ts';
import { listDevices } from '../tables/devices.ts';
import type { PortRanges } from './nat-ports.ts';

/** NAT ranges as the datapath has them; `fallback` for an address that left every device. */
export function portRanges(bpffs: string, fallback: { min: number; max: number }): PortRanges {
  const byAddress = new Map<string, number>();
  for (const family of FAMILIES) {
    for (const device of listDevices(bpffs, family)) {
      if ((device.flags & device_flag.DEVICE_HAS_ADDRESS) === 0) continue;
      byAddress.set(formatAddress(device.addr), device.port_max - device.port_min + 1);
    }
  }
  return (egress) => byAddress.get(egress) ?? fallback.max - fallback.min + 1;
}
