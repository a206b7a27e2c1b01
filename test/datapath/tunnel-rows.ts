import ipaddr from 'ipaddr.js';
import { encode, encodeInto } from '../../agent/abi/codec.ts';
import { layouts, prefix_flag } from '../../agent/abi/generated.ts';
import { PEOPLE, type Rig } from './rig.ts';
import { type Place, serviceRows } from './service-rows.ts';

/** The node's own IPv4 address, another's, and one that is nobody's: tunnels have no other. */
export const OWN = PEOPLE.ipv4.N;
export const OTHER = '192.168.1.6';
export const STRANGER = '192.168.1.7';

export interface PlainService extends Place {
  /** Its own, its frontend's and its backend's. */
  id: number;
  /** IP protocol number. */
  protocol: number;
  flags: number;
  /** Not given: nobody takes its connections. */
  backend?: Place;
}

/** A service with one frontend and at most one backend. */
export function addService(rig: Rig, { backend, ...service }: PlainService): void {
  const rows = serviceRows(rig);
  const { id, protocol } = service;
  rows.frontend({ ...service, index: id, backends: backend ? 1 : 0 });
  if (!backend) return;
  rows.backend({ ...backend, id, service: id, protocol });
  rows.table(id, [id]);
}

/** Makes `OTHER` the node of the pods around an address, and eth0 the way there. */
export function addNode(rig: Rig, pods: string): void {
  const shape = layouts[rig.family];
  const devices = rig.map('devices');
  const device = devices.lookup(word(rig.ifindex.eth0));
  if (!device) throw new Error('eth0 has no row');
  encodeInto(shape.device, { tunnel_addr: number(OWN) }, device);
  devices.update(word(rig.ifindex.eth0), device);
  rig.map('tunnel_peers').update(bytes(OTHER), word(1));
  const prefixlen = rig.family === 'ipv4' ? 24 : 64;
  const row = { flags: prefix_flag.PREFIX_NO_MASQUERADE, tunnel: number(OTHER) };
  rig
    .map('prefixes')
    .update(encode(shape.prefix_key, { prefixlen, addr: bytes(pods) }), encode(shape.prefix, row));
}

const bytes = (address: string) => Uint8Array.from(ipaddr.parse(address).toByteArray());
const word = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
/** An IPv4 address as the codec takes it. */
const number = (address: string) => new DataView(bytes(address).buffer).getUint32(0);
