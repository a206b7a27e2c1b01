import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mapLines } from '../../agent/cli/map.ts';
import { readMapStats } from '../../agent/cli/map-stats.ts';
import { createMap } from '../../agent/kernel/map.ts';
import { isOlderThan, mountBpffs, skipReason } from './sandbox.ts';

test('a ring buffer has no entries to be counted', { skip: skipReason }, async () => {
  using bpffs = mountBpffs();
  mkdirSync(join(bpffs.path, 'ipv4'));
  const shape = { keySize: 0, valueSize: 0, maxEntries: 65_536 };
  using ring = createMap({ type: 'ringbuf', name: 'events', ...shape });
  ring.pin(join(bpffs.path, 'ipv4/events'));

  const [stats] = await readMapStats(bpffs.path);
  assert.ok(stats && (stats.memory >= 65_536 || isOlderThan(6, 4)));
  const { memory: _, ...rest } = stats;
  assert.deepEqual(rest, {
    ...{ name: 'ipv4/events', type: 'ringbuf', entries: null, capacity: 65_536 },
    ...{ pressure: null, created: null, evicted: null },
  });
  assert.match(mapLines([stats])[1] ?? '', /^ipv4\/events +ringbuf +- +65536 +- +\S.* +- +-$/);
});
