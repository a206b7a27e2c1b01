import { serviceIdsPin } from '../engine/pins.ts';
import { openRecord } from '../engine/record.ts';
import { indexKey } from '../tables/index-key.ts';
import type { NextIds } from './ids.ts';

const NAME = 'service_ids';
const SHAPE = { name: NAME, type: 'array', keySize: 4, valueSize: 16, maxEntries: 1 } as const;
const FIRST = indexKey(0);

/** Where ids were given out last: as old as the maps that they stand in. */
export interface IdRecord {
  /** 0 where none was given. */
  read(): NextIds;
  write(next: NextIds): void;
}

/** Opens what is pinned below `bpffs`, which must be there, or pins it. */
export function openIdRecord(bpffs: string): IdRecord & Disposable {
  const map = openRecord(serviceIdsPin(bpffs), SHAPE);
  return {
    read() {
      const value = map.lookup(FIRST) ?? new Uint8Array(SHAPE.valueSize);
      const [service = 0, backend = 0, ipv4 = 0, ipv6 = 0] = new Uint32Array(value.buffer);
      return { service, backend, ipv4, ipv6 };
    },
    write({ service, backend, ipv4, ipv6 }) {
      const words = Uint32Array.of(service, backend, ipv4, ipv6);
      map.update(FIRST, new Uint8Array(words.buffer));
    },
    [Symbol.dispose]: () => map.close(),
  };
}
