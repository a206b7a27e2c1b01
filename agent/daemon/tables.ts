import { layouts } from '../abi/generated.ts';
import type { Datapath } from '../engine/datapath.ts';
import type { CollectedTable } from '../engine/pass.ts';
import type { FamilyTables } from '../engine/reconcile.ts';
import { rowTables as familyRowTables } from '../engine/row-tables.ts';
import type { ScrubbedTable } from '../engine/scrub.ts';
import type { BpfMap } from '../kernel/map.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { flowClass } from '../tables/flow-class.ts';
import {
  CONNECTION_TABLES,
  type ConnectionTable,
  FLOW_CLASSES,
  NAT_CLASSES,
} from '../tables/names.ts';

const TCP = 6;

/** The maps that hold rows, of both families. */
export function rowTables(datapath: Datapath): Record<Family, FamilyTables> {
  const ofFamily = (family: Family) =>
    familyRowTables(family, (name) => datapath.map(family, name));
  return { ipv4: ofFamily('ipv4'), ipv6: ofFamily('ipv6') };
}

/** The connection tables of both families, as the collector walks them. */
export function connectionTables(datapath: Datapath): (CollectedTable & ScrubbedTable)[] {
  return FAMILIES.flatMap((family) =>
    CONNECTION_TABLES.map((table) => ({
      ...connectionTable(family, table, datapath.map(family, table)),
      isHalfway: datapath.previous(family, table) !== undefined,
    })),
  );
}

/**
 * The connection tables of both families, as a scrub walks them: of one that is being resized the
 * previous map first, then the current one, so that nothing moves on unseen. They stay open
 * although the resize may end.
 */
export function openScrubbed(datapath: Datapath): Disposable & { tables: ScrubbedTable[] } {
  using stack = new DisposableStack();
  const tables = FAMILIES.flatMap((family) =>
    CONNECTION_TABLES.flatMap((table) =>
      [datapath.previous(family, table), datapath.map(family, table)]
        .filter((map) => map !== undefined)
        .map((map) => connectionTable(family, table, stack.use(map.duplicate()))),
    ),
  );
  const owned = stack.move();
  return { tables, [Symbol.dispose]: () => owned.dispose() };
}

/** One connection table, as collector and scrub walk it. */
export function connectionTable(
  family: Family,
  table: ConnectionTable,
  map: BpfMap,
): CollectedTable & ScrubbedTable {
  const { keySize, valueSize, maxEntries: capacity } = map;
  const lookupBatch = (size?: number) => map.lookupBatch(size);
  const base = { family, table, capacity, keySize, valueSize, lookupBatch };
  return table === 'snat' ? { ...base, ...natFields(family) } : { ...base, ...ctFields(family) };
}

function natFields(family: Family) {
  const { addr, port, expires, class: held } = layouts[family].nat_entry.fields;
  return {
    expiresOffset: expires.offset,
    natAddressOffset: addr.offset,
    mapping: { address: addr.offset, port: port.offset },
    classes: NAT_CLASSES,
    classOf: (_keys: DataView, _key: number, values: DataView, value: number) =>
      values.getUint8(value + held.offset),
  };
}

function ctFields(family: Family) {
  const { ct_entry, tuple } = layouts[family];
  const { expires, flags, seen, nat_addr, nat_port } = ct_entry.fields;
  const { proto } = tuple.fields;
  return {
    expiresOffset: expires.offset,
    mapping: { address: nat_addr.offset, port: nat_port.offset },
    classes: FLOW_CLASSES,
    classOf: (keys: DataView, key: number, values: DataView, value: number) =>
      flowClass(
        values.getUint16(value + flags.offset, true),
        values.getUint8(value + seen.offset),
        keys.getUint8(key + proto.offset) === TCP,
      ),
  };
}
