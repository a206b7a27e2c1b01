/** Rows of the maps of services, written as the control plane would. */
import ipaddr from 'ipaddr.js';
import { encode } from '../../agent/abi/codec.ts';
import {
  backend_state,
  backend_table_size,
  layouts,
  service_count,
  service_flag,
  service_scope,
} from '../../agent/abi/generated.ts';
import { createMap } from '../../agent/kernel/map.ts';
import type { Rig } from './rig.ts';

export interface Place {
  address: string;
  port: number;
}

export interface ServiceRow extends Place {
  id: number;
  /** `rev_nat_index` of this frontend. */
  index: number;
  protocol?: number;
  scope?: number;
  flags?: number;
  affinityTimeout?: number;
  /** How many may be chosen. */
  backends?: number;
}

export interface BackendRow extends Place {
  id: number;
  service: number;
  protocol?: number;
  state?: number;
}

const TCP = 6;
const bytes = (address: string) => Uint8Array.from(ipaddr.parse(address).toByteArray());
const word = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);

/** What writes services into a rig's maps. */
export function serviceRows(rig: Rig) {
  const shape = layouts[rig.family];
  const EXTERNAL = service_scope.SERVICE_EXTERNAL;
  const FROM_OUTSIDE = service_flag.SERVICE_FROM_OUTSIDE;
  return {
    frontend(row: ServiceRow) {
      const { address, port, protocol = TCP, scope = EXTERNAL } = row;
      rig.map('services').update(
        encode(shape.service_key, { addr: bytes(address), port, proto: protocol, scope }),
        encode(shape.service, {
          id: row.id,
          backends: row.backends ?? 1,
          affinity_timeout: row.affinityTimeout ?? 0,
          rev_nat_index: row.index,
          flags: row.flags ?? FROM_OUTSIDE,
        }),
      );
      if (row.index === 0) return;
      const frontend = { addr: bytes(address), port, service_id: row.id };
      rig.map('rev_nat').update(word(row.index), encode(shape.rev_nat, frontend));
    },
    removeFrontend({ address, port }: Place, protocol = TCP) {
      const key = { addr: bytes(address), port, proto: protocol };
      rig.map('services').delete(encode(shape.service_key, key));
    },
    removeIndex: (index: number) => rig.map('rev_nat').delete(word(index)),
    backend(row: BackendRow) {
      const { address, port, protocol = TCP, state = backend_state.BACKEND_ACTIVE } = row;
      const addr = bytes(address);
      rig
        .map('backends')
        .update(
          word(row.id),
          encode(shape.backend, { addr, port, proto: protocol, state, service_id: row.service }),
        );
      rig
        .map('backend_addresses')
        .update(encode(shape.backend_address, { addr, port, proto: protocol }), word(1));
    },
    removeBackend: (id: number) => rig.map('backends').delete(word(id)),
    /** The ids in turns. */
    table(service: number, ids: readonly number[], scope: number = EXTERNAL) {
      const size = backend_table_size.BACKEND_TABLE_SIZE;
      const value = Uint32Array.from({ length: size }, (_, i) => ids[i % ids.length] ?? 0);
      using inner = createMap({
        name: 'backend_table',
        type: 'array',
        keySize: 4,
        valueSize: shape.backend_table.size,
        maxEntries: 1,
      });
      inner.update(word(0), new Uint8Array(value.buffer));
      const key = encode(shape.backend_table_key, { service_id: service, scope });
      rig.map('backend_tables').updateFd(key, inner);
    },
    admit(service: number, address: string, length: number) {
      const id = new DataView(new ArrayBuffer(4));
      id.setUint32(0, service);
      const key = {
        prefixlen: 32 + length,
        service_id: id.getUint32(0, true),
        addr: bytes(address),
      };
      rig.map('source_ranges').update(encode(shape.source_range_key, key), word(1));
    },
    counted(id: number, kind: keyof typeof service_count, reason = 0): number {
      const key = encode(shape.service_count_key, { id, kind: service_count[kind], reason });
      if (!rig.map('service_counts').lookup(key)) return 0;
      return Number(rig.map('service_counts').sumU64(key));
    },
    /** As if the client had last been seen so many seconds ago. */
    ageAffinity(service: number, client: string, seconds: number) {
      const key = encode(shape.affinity_key, { client: bytes(client), service_id: service });
      const value = rig.map('affinity').lookup(key);
      if (!value) return false;
      const view = new DataView(value.buffer, value.byteOffset);
      view.setUint32(4, rig.now() - seconds, true);
      rig.map('affinity').update(key, value);
      return true;
    },
  };
}
