import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServiceStore } from '../../agent/daemon/service-store.ts';
import { createServices, type ServiceKeeper } from '../../agent/daemon/services.ts';
import type { NextIds } from '../../agent/services/ids.ts';
import { createReconciler } from '../../agent/services/reconciler.ts';
import type { ServiceSpec } from '../../agent/services/spec.ts';
import { buildTables } from '../../agent/services/table-builder.ts';
import { noServiceCounts } from '../../agent/tables/service-counts.ts';
import { type MemoryServices, memoryServices } from '../lib/memory-services.ts';
import { backend, factsOf, specOf } from '../lib/service-specs.ts';

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

interface Bench {
  keeper: ServiceKeeper;
  saved: ServiceSpec[][];
  maps: MemoryServices;
}

function open(services: ServiceSpec[] = [], before: ServiceSpec[] = []): Bench {
  const saved: ServiceSpec[][] = [];
  const store: ServiceStore = { before, save: async (list) => void saved.push([...list]) };
  const maps = memoryServices();
  let next: NextIds = { service: 0, backend: 0, ipv4: 0, ipv6: 0 };
  const record = {
    read: () => next,
    write(ids: NextIds) {
      next = ids;
    },
  };
  const reconciler = createReconciler({
    ...{ tables: maps.tables, record, build: buildTables, logger: SILENT },
    flush: async () => 0,
  });
  const counts = async () => ({ ...noServiceCounts(), connections: new Map([[1, 7]]) });
  const keeper = createServices({
    ...{ configured: { services }, store, reconciler, counts, logger: SILENT },
    onReconciled() {},
  });
  return { keeper, saved, maps };
}

const at = (address: string) => ({ frontends: [{ address, port: 80, protocol: 'TCP' as const }] });
const a = specOf({ name: 'a', ...at('10.96.0.1') });
const b = specOf({ name: 'b', ...at('10.96.0.2') });

test('nothing is served before the node is known', async () => {
  const { keeper, maps } = open([a]);
  assert.equal((await keeper.get('a')).state, 'pending');
  await assert.rejects(keeper.apply([b]), { code: 'E_NOT_RUNNING' });
  await keeper.follow(factsOf());
  assert.equal((await keeper.get('a')).state, 'applied');
  assert.ok(maps.writes() > 0);
});

test('a request is taken over as far as it can be, and what was there stays else', async () => {
  const { keeper, saved } = open();
  await keeper.follow(factsOf());
  await keeper.apply([a, b]);
  const moved = [
    { ...a, ...at('10.96.0.3'), backends: [backend('fd00::1')] },
    { ...b, ...at('10.96.0.1') },
    specOf({ name: 'c', ...at('10.96.0.3') }),
  ];
  const results = await keeper.apply(moved);
  assert.deepEqual(
    results.map(({ name, result }) => [name, result]),
    [
      ['a', 'rejected'],
      ['b', 'rejected'],
      ['c', 'created'],
    ],
  );
  assert.match(results[1]?.problems[0] ?? '', /belongs to service a/);
  assert.deepEqual(
    saved.at(-1)?.map(({ name, frontends }) => [name, frontends[0]?.address]),
    [
      ['a', '10.96.0.1'],
      ['b', '10.96.0.2'],
      ['c', '10.96.0.3'],
    ],
  );
});

test('two services exchange their addresses in one request', async () => {
  const { keeper } = open();
  await keeper.follow(factsOf());
  await keeper.apply([a, b]);
  const results = await keeper.apply([
    { ...a, ...at('10.96.0.2') },
    { ...b, ...at('10.96.0.1') },
  ]);
  assert.deepEqual(
    results.map(({ result }) => result),
    ['updated', 'updated'],
  );
});

test('the same request again changes nothing, also to a daemon that has just started', async () => {
  const first = open();
  await first.keeper.follow(factsOf());
  await first.keeper.apply([a, b]);
  const again = open([], first.saved.at(-1));
  await again.keeper.follow(factsOf());
  const results = await again.keeper.apply([a, b]);
  assert.deepEqual(
    results.map(({ result }) => result),
    ['unchanged', 'unchanged'],
  );
  assert.deepEqual(again.saved, []);
});

test('a service of the configuration wins over one that was applied', async () => {
  const { keeper, saved } = open();
  await keeper.follow(factsOf());
  await keeper.apply([a, b]);
  await keeper.configure({
    services: [{ ...a, algorithm: 'random' }, specOf({ name: 'c', ...at('10.96.0.2') })],
  });
  const [fixed, , loser] = await keeper.list();
  assert.deepEqual([fixed?.source, fixed?.algorithm], ['config', 'random']);
  assert.deepEqual(loser?.problems, ['frontend 10.96.0.2:80/TCP belongs to service c']);
  assert.deepEqual(
    saved.at(-1)?.map(({ name }) => name),
    ['b'],
  );
  assert.deepEqual(keeper.totals(), { total: 3, rejected: 1 });
  await assert.rejects(keeper.remove('a'), { code: 'E_CONFLICT' });
});

test('a service that the node has grown into is rejected until it has gone again', async () => {
  const { keeper } = open([a]);
  await keeper.follow(factsOf());
  await keeper.follow(factsOf({ endpoints: new Map([['10.96.0.1', 'pod']]) }));
  assert.deepEqual(keeper.warnings(), [
    'service a: frontend 10.96.0.1 is the address of endpoint pod',
  ]);
  await keeper.follow(factsOf());
  assert.deepEqual(keeper.warnings(), []);
});

test('a service is told with its counts', async () => {
  const { keeper } = open([a]);
  await keeper.follow(factsOf());
  assert.equal((await keeper.get('a')).connections, 7);
  assert.equal((await keeper.samples())[0]?.connections, 7);
  await assert.rejects(keeper.get('nobody'), { code: 'E_NOT_FOUND' });
});
