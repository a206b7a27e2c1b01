import { nth } from './scene.ts';
import { type Addresses, FAMILIES, type Topology } from './topology.ts';

/** A second way from the first node to the world, and what is reached by it. */
export interface Uplink {
  device: string;
  /** The node's addresses on it. */
  addresses: Addresses;
  /** The world's. */
  gateway: Addresses;
  destination: Addresses;
  /** Makes the node's device, with addresses and routes, all at once. */
  plug(): Promise<void>;
  unplug(): Promise<void>;
}

const DEVICE = 'eth1';
const MAC = '02:5e:01:00:01:00';
const ADDRESSES: Addresses = { ipv4: '192.168.2.5', ipv6: 'fd00:192:168:2::5' };
const GATEWAY: Addresses = { ipv4: '192.168.2.1', ipv6: 'fd00:192:168:2::1' };
const DESTINATION: Addresses = { ipv4: '198.51.100.9', ipv6: '2001:db8:51::9' };

/** The world's side, `eth1` as well, which outlives what is plugged into it. */
export async function makeUplink({ world, nodes }: Topology): Promise<Uplink> {
  const { ns } = nth(nodes);
  await world.ip(
    `addr add ${DESTINATION.ipv4}/32 dev lo`,
    `addr add ${DESTINATION.ipv6}/128 dev lo nodad`,
    `link add ${DEVICE} address ${MAC} type bridge`,
    `addr add ${GATEWAY.ipv4}/24 dev ${DEVICE}`,
    `addr add ${GATEWAY.ipv6}/64 dev ${DEVICE} nodad`,
    `link set ${DEVICE} up`,
  );
  return {
    device: DEVICE,
    addresses: ADDRESSES,
    gateway: GATEWAY,
    destination: DESTINATION,
    async plug() {
      await ns.ip(
        `link add ${DEVICE} type veth peer name plug netns ${world.name}`,
        `link set ${DEVICE} up`,
        ...FAMILIES.map((family) => `neigh add ${GATEWAY[family]} lladdr ${MAC} dev ${DEVICE}`),
        `addr add ${ADDRESSES.ipv4}/24 dev ${DEVICE}`,
        `addr add ${ADDRESSES.ipv6}/64 dev ${DEVICE} nodad`,
        ...FAMILIES.map((family) => `route add ${DESTINATION[family]} via ${GATEWAY[family]}`),
      );
      await world.ip(`link set plug master ${DEVICE} up`);
    },
    unplug: () => ns.ip(`link del ${DEVICE}`),
  };
}
