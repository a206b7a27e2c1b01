import { decode } from '../abi/codec.ts';
import { layouts } from '../abi/generated.ts';
import { CONNECTION_TABLES, type ConnectionTable, EVENT_TYPES, type EventType } from './names.ts';

/** What a record of the ring buffer says. */
export type Event =
  /** A port was found late, or not at all. */
  | { type: Extract<EventType, 'nat_pressure'> }
  /** A reply could not be mapped, and the node's answer to it was held back. */
  | { type: Extract<EventType, 'half_lost'> }
  /** A CPU has added its share to a table. */
  | { type: Extract<EventType, 'table_fill'>; table: ConnectionTable };

const layout = layouts.ipv4.event;

/** Both families have the same records. Undefined for one that this version does not know. */
export function decodeEvent(record: Uint8Array): Event | undefined {
  if (record.length < layout.size) return undefined;
  const { type, table } = decode(layout, record);
  const name = EVENT_TYPES[type];
  if (name !== 'table_fill') return name && { type: name };
  const filled = CONNECTION_TABLES[table];
  return filled && { type: name, table: filled };
}
