import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '../../agent/abi/codec.ts';
import { event_type, layouts, table } from '../../agent/abi/generated.ts';
import { decodeEvent } from '../../agent/tables/events.ts';

const record = (type: number, number = 0) => encode(layouts.ipv6.event, { type, table: number });

test('a signal says what it is about', () => {
  assert.deepEqual(decodeEvent(record(event_type.EVENT_NAT_PRESSURE)), { type: 'nat_pressure' });
  const fill = record(event_type.EVENT_TABLE_FILL, table.TABLE_SNAT);
  assert.deepEqual(decodeEvent(fill), { type: 'table_fill', table: 'snat' });
});

test('what another version says is passed over', () => {
  assert.equal(decodeEvent(record(event_type.EVENT_COUNT)), undefined);
  assert.equal(decodeEvent(record(event_type.EVENT_TABLE_FILL, 99)), undefined);
  assert.equal(decodeEvent(new Uint8Array(4)), undefined);
});

test('both families have the same records', () => {
  assert.deepEqual(layouts.ipv4.event, layouts.ipv6.event);
});
