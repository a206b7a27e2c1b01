import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServiceStore } from '../../agent/daemon/service-store.ts';
import { createServices, type ServiceKeeper } from '../../agent/daemon/services.ts';
import type { NextIds } from '../../agent/services/ids.ts';
import { createReconciler } from '../../agent/services/reconciler.ts';
import type { ServiceSpec } from '../../agent/services/spec.ts';
import { buildTables } from '../../agent/services/table-builder.ts';
import type { ServiceView } from '../../agent/services/view.ts';
import { noServiceCounts } from '../../agent/tables/service-counts.ts';
import { type MemoryServices, memoryServices } from '../lib/memory-services.ts';
import { backend, factsOf, specOf } from '../lib/service-specs.ts';

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

interface Bench {
  keeper: ServiceKeeper;
  saved: ServiceSpec[][];
  maps: MemoryServices;
  /** What fails from now on. */
  fails: { disk: boolean; maps: boolean };
}

function open(services: ServiceSpec[] = [], before: ServiceSpec[] = []): Bench {
  const saved: ServiceSpec[][] = [];
  const fails = { disk: false, maps: false };
  const store: ServiceStore = {
    before,
    async save(list) {
      if (fails.disk) throw new Error('the disk is full');
      saved.push([...list]);
    },
  };
  const maps = memoryServices(() => {
    if (fails.maps) throw new Error('the map is busy');
  });
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
  return { keeper, saved, maps, fails };
}

async function listOf(keeper: ServiceKeeper): Promise<ServiceView[]> {
  const all: ServiceView[] = [];
  for await (const some of keeper.views()) all.push(...some);
  return all;
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
  const [fixed, , loser] = await listOf(keeper);
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
  const [sample] = await keeper.samples();
  assert.equal(sample?.connections, 7);
  const backends = { active: 0, terminating: 0, quarantined: 0, maintenance: 0 };
  assert.deepEqual(sample?.backends, backends);
  await assert.rejects(keeper.get('nobody'), { code: 'E_NOT_FOUND' });
});

test('what could not be stored has not happened', async () => {
  const { keeper, maps, fails } = open();
  await keeper.follow(factsOf());
  await keeper.apply([a]);
  const before = maps.text();
  fails.disk = true;
  await assert.rejects(keeper.apply([b]), /the disk is full/);
  await assert.rejects(keeper.apply([b]), /the disk is full/);
  await assert.rejects(keeper.remove('a'), /the disk is full/);
  assert.deepEqual(
    (await listOf(keeper)).map(({ name }) => name),
    ['a'],
  );
  assert.deepEqual(maps.text(), before);
  fails.disk = false;
  assert.equal((await keeper.apply([b]))[0]?.result, 'created');
});

test('a change that the maps did not take is told again, and done with the next request', async () => {
  const { keeper, fails } = open();
  await keeper.follow(factsOf());
  fails.maps = true;
  await assert.rejects(keeper.apply([a]), /the map is busy/);
  assert.match(keeper.problem() ?? '', /the map is busy/);
  await assert.rejects(keeper.apply([a]), /the map is busy/);
  fails.maps = false;
  const [again] = await keeper.apply([a]);
  assert.deepEqual([again?.result, (again?.id ?? 0) > 0], ['unchanged', true]);
  assert.equal(keeper.problem(), undefined);
  assert.equal((await keeper.get('a')).state, 'applied');
  await keeper[Symbol.asyncDispose]();
});

test('a service that is not served is not called unchanged', async () => {
  const { keeper } = open();
  await keeper.follow(factsOf());
  await keeper.apply([a]);
  await keeper.follow(factsOf({ endpoints: new Map([['10.96.0.1', 'pod']]) }));
  const [again] = await keeper.apply([a]);
  assert.deepEqual(again?.problems, ['frontend 10.96.0.1 is the address of endpoint pod']);
  assert.equal(again?.result, 'rejected');
  await keeper.follow(factsOf());
  assert.equal((await keeper.apply([a]))[0]?.result, 'unchanged');
});

test('of two with one name in a request the first counts, now and later', async () => {
  const { keeper } = open();
  await keeper.follow(factsOf());
  const second = { ...a, algorithm: 'random' as const };
  const results = await keeper.apply([a, second]);
  assert.deepEqual(
    results.map(({ result }) => result),
    ['created', 'rejected'],
  );
  assert.equal((await keeper.apply([second]))[0]?.result, 'updated');
});

test('what gave way is gone from the store, and can be added again', async () => {
  const { keeper, saved } = open([a], [a, b]);
  await keeper.follow(factsOf());
  assert.deepEqual(
    saved.map((list) => list.map(({ name }) => name)),
    [['b']],
  );
  await keeper.configure({ services: [{ ...b, algorithm: 'random' }] });
  await keeper.configure({ services: [] });
  assert.deepEqual(await listOf(keeper), []);
  assert.equal((await keeper.apply([b]))[0]?.result, 'created');
});

test('a service of the configuration that is no longer valid stays as it was', async () => {
  const { keeper, maps } = open([a, b]);
  await keeper.follow(factsOf());
  const writes = maps.writes();
  const rejectedServices = [{ name: 'a', reason: 'services[0].frontend: unknown key' }];
  await keeper.configure({ services: [b], rejectedServices });
  assert.equal(maps.writes(), writes);
  assert.deepEqual(
    (await listOf(keeper)).map(({ name, state, problems }) => [name, state, problems]),
    [
      ['b', 'applied', []],
      ['a', 'applied', ['services[0].frontend: unknown key; the one before stays']],
    ],
  );
  assert.deepEqual(keeper.invalid(), []);
  assert.deepEqual(keeper.totals(), { total: 2, rejected: 1 });
  assert.deepEqual(keeper.warnings(), ['service a: services[0].frontend: unknown key']);
  await keeper.configure({ services: [b] });
  assert.deepEqual(
    (await listOf(keeper)).map(({ name }) => name),
    ['b'],
  );
});

test('what contradicts itself only once its addresses are read stays as it was, too', async () => {
  const { keeper } = open([a]);
  await keeper.follow(factsOf());
  await keeper.configure({ services: [{ ...a, backends: [backend('fd00::1')] }] });
  const { state, backends, problems } = await keeper.get('a');
  assert.deepEqual([state, backends], ['applied', []]);
  assert.match(problems[0] ?? '', /of different families; the one before stays$/);
});

test('what stays takes nothing from a service that is valid', async () => {
  const { keeper } = open([a, b]);
  await keeper.follow(factsOf());
  const both = { ...a, frontends: [...a.frontends, ...b.frontends] };
  const rejectedServices = [{ name: 'b', reason: 'services[1].frontend: unknown key' }];
  await keeper.configure({ services: [both], rejectedServices });
  const [first, second] = await listOf(keeper);
  assert.deepEqual([first?.name, first?.state, first?.frontends.length], ['a', 'applied', 2]);
  assert.deepEqual([second?.name, second?.state], ['b', 'rejected']);
});

test('services of the configuration that are not valid are counted and named', async () => {
  const { keeper } = open();
  await keeper.follow(factsOf());
  const invalid = [{ name: 'web', reason: 'services[0].type: expected …' }];
  await keeper.configure({ services: [a], rejectedServices: invalid });
  assert.deepEqual(keeper.totals(), { total: 2, rejected: 1 });
  assert.deepEqual(keeper.warnings(), ['service web: services[0].type: expected …']);
  assert.deepEqual(keeper.invalid(), invalid);
});
