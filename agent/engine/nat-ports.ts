import { mix } from './mix.ts';

const BUCKETS = 1 << 18;
const WITH_PORTS = new Set([6, 17, 132]);

/**
 * Counts the ports in use towards each (protocol, egress address, remote address, remote port)
 * in constant memory: groups are hashed into buckets, so a count may be a few too high with
 * hundreds of thousands of groups, and is never too low.
 */
export class PortUsage {
  readonly #counts = new Uint32Array(BUCKETS);
  /** Ports of the fullest group. */
  max = 0;

  /**
   * Takes one reverse NAT key (struct tuple of 16 or 40 bytes) at `offset`; its destination port
   * is the translated port.
   */
  add(keys: DataView, offset: number, keySize: number): void {
    const ports = offset + keySize - 8;
    const proto = keys.getUint8(ports + 4);
    if (!WITH_PORTS.has(proto)) return;
    let hash = proto;
    for (let at = offset; at < ports; at += 4) hash = mix(hash, keys.getUint32(at, true));
    hash = mix(hash, keys.getUint16(ports, true));
    const bucket = (hash ^ (hash >>> 16)) & (BUCKETS - 1);
    const count = (this.#counts[bucket] ?? 0) + 1;
    this.#counts[bucket] = count;
    if (count > this.max) this.max = count;
  }
}
