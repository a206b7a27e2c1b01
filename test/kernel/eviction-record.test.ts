import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openEvictionRecord } from '../../agent/engine/eviction-record.ts';
import { evictionsPin } from '../../agent/engine/pins.ts';
import { createMap } from '../../agent/kernel/map.ts';
import { FAMILIES } from '../../agent/lib/ip.ts';
import { CONNECTION_TABLES } from '../../agent/tables/names.ts';
import { mountBpffs, skipReason } from './sandbox.ts';

const TABLES = FAMILIES.flatMap((family) =>
  CONNECTION_TABLES.map((table) => [family, table] as const),
);

test('evictions are kept by table, also for who opens them next', { skip: skipReason }, () => {
  using bpffs = mountBpffs();
  {
    using record = openEvictionRecord(bpffs.path);
    for (const [i, table] of TABLES.entries()) {
      assert.equal(record.read(...table), 0);
      record.write(...table, 2 ** 40 + i);
    }
  }
  using record = openEvictionRecord(bpffs.path);
  for (const [i, table] of TABLES.entries()) assert.equal(record.read(...table), 2 ** 40 + i);
});

test('a record that another version made begins anew', { skip: skipReason }, () => {
  using bpffs = mountBpffs();
  const shape = { keySize: 4, valueSize: 16, maxEntries: 1 };
  using other = createMap({ type: 'array', name: 'evictions', ...shape });
  other.pin(evictionsPin(bpffs.path));
  using record = openEvictionRecord(bpffs.path);
  record.write('ipv6', 'snat', 3);
  assert.equal(record.read('ipv6', 'snat'), 3);
  using again = openEvictionRecord(bpffs.path);
  assert.equal(again.read('ipv6', 'snat'), 3);
});
