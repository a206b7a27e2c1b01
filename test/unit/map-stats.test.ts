import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counter } from '../../agent/abi/generated.ts';
import { countTurnover } from '../../agent/cli/map-stats.ts';
import { nameCounters } from '../../agent/tables/counters.ts';

test('what comes and goes while a table is counted is no eviction', async () => {
  const values: number[] = [];
  const counters = () => nameCounters(values);
  values[counter.COUNTER_CREATED] = 1000;
  values[counter.COUNTER_DELETED] = 100;
  const count = async () => {
    values[counter.COUNTER_CREATED] = 1050;
    values[counter.COUNTER_DELETED] = 400;
    return 1050 - 400 - 7;
  };
  assert.deepEqual(await countTurnover('ct_tcp', count, counters), {
    ...{ entries: 643, created: 1000, evicted: 0 },
  });
  const again = await countTurnover('ct_tcp', async () => 643, counters);
  assert.deepEqual(again.evicted, 7, 'and exact at rest');
});
