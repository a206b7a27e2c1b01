import { encode } from '../../../agent/abi/codec.ts';
import { endpoint_flag, layouts } from '../../../agent/abi/generated.ts';
import { parseAddress } from '../../../agent/lib/ip.ts';
import type { Rig } from '../../datapath/rig.ts';
import { addService } from '../../datapath/tunnel-rows.ts';

const TCP = 6;
/** Of frontends, and of backends. */
export const [PORT, SERVED] = [80, 8080];
/**
 * The wrapper counts on in the last bytes of one address where ports are used up: there are so
 * many services, each with an address and a backend of its own.
 */
const SERVICES = 4;
/** Frontends inside the cluster and outside, backends on pod b's link and on another node. */
const PLACES = { inside: '10.96.0.', outside: '198.51.0.', here: '10.1.0.', away: '10.2.0.' };

/** The addresses of the first service, and so of the wrapper's first flow. */
export const FIRST = {
  ...{ inside: `${PLACES.inside}0`, outside: `${PLACES.outside}0` },
  ...{ here: `${PLACES.here}0`, away: `${PLACES.away}0` },
};

/** Services of one backend each. */
export function addServices(
  rig: Rig,
  frontends: 'inside' | 'outside',
  backends: 'here' | 'away',
  flags: number,
): void {
  for (let i = 0; i < SERVICES; i++) {
    const backend = { address: `${PLACES[backends]}${i}`, port: SERVED };
    if (backends === 'here') addEndpoint(rig, backend.address, rig.ifindex.b);
    const address = `${PLACES[frontends]}${i}`;
    addService(rig, { id: i + 1, address, port: PORT, protocol: TCP, flags, backend });
  }
}

/** So that the frontends outside are node ports. */
export function addNodeAddresses(rig: Rig): void {
  for (let i = 0; i < SERVICES; i++) addEndpoint(rig, `${PLACES.outside}${i}`);
}

/** A pod behind this interface, or without one the node itself. */
function addEndpoint(rig: Rig, address: string, ifindex = 0): void {
  const flags = ifindex ? endpoint_flag.ENDPOINT_PEER : endpoint_flag.ENDPOINT_HOST;
  const row = { ifindex, id: ifindex && 2, identity: 3002, flags, mtu: 1500 };
  rig.map('endpoints').update(parseAddress(address).bytes, encode(layouts.ipv4.endpoint, row));
}
