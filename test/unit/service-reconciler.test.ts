import assert from 'node:assert/strict';
import { test } from 'node:test';
import { service_flag } from '../../agent/abi/generated.ts';
import { KernelError } from '../../agent/lib/errors.ts';
import { type Family, parseAddress, prefixContains } from '../../agent/lib/ip.ts';
import { compile } from '../../agent/services/compile.ts';
import type { NodeFacts } from '../../agent/services/facts.ts';
import type { Gone } from '../../agent/services/flush.ts';
import type { NextIds } from '../../agent/services/ids.ts';
import { type PreparedService, prepareService } from '../../agent/services/prepare.ts';
import { createReconciler, type Served } from '../../agent/services/reconciler.ts';
import type { ServiceSpec } from '../../agent/services/spec.ts';
import { buildTables } from '../../agent/services/table-builder.ts';
import {
  assertNothingDangles,
  type MemoryServices,
  memoryServices,
} from '../lib/memory-services.ts';
import { backend, factsOf, specOf } from '../lib/service-specs.ts';

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

interface Bench {
  apply(specs: Partial<ServiceSpec>[], facts?: NodeFacts): Promise<Served>;
  flushed: Record<Family, Gone>[];
}

/** A daemon that starts over the maps; `next` outlives it as they do. */
function start(services: MemoryServices, next: { ids: NextIds }): Bench {
  const prepared = new Map<string, PreparedService>();
  const flushed: Record<Family, Gone>[] = [];
  const reconciler = createReconciler({
    tables: services.tables,
    record: {
      read: () => next.ids,
      write(ids) {
        next.ids = ids;
      },
    },
    build: buildTables,
    flush: async (gone) => flushed.push(gone),
    logger: SILENT,
  });
  return {
    flushed,
    apply(specs, facts = factsOf()) {
      const list = specs.map((overrides) => {
        const spec = specOf(overrides);
        const text = JSON.stringify(spec);
        const service = prepared.get(text) ?? prepareService(spec);
        prepared.set(text, service);
        return service;
      });
      const compiled = compile(list, facts);
      assert.deepEqual([...compiled.rejected.values()], []);
      return reconciler.apply(compiled);
    },
  };
}

function noIds(): { ids: NextIds } {
  return { ids: { service: 0, backend: 0, ipv4: 0, ipv6: 0 } };
}

const web = (overrides: Partial<ServiceSpec> = {}): Partial<ServiceSpec> => ({
  backends: [backend('10.0.1.10'), backend('10.0.2.10')],
  ...overrides,
});
const dns: Partial<ServiceSpec> = {
  name: 'dns',
  frontends: [{ address: '10.96.0.10', port: 53, protocol: 'UDP' }],
  backends: [backend('10.0.1.10', { port: 53 })],
};
const front: Partial<ServiceSpec> = {
  ...{ name: 'front', type: 'LoadBalancer', nodePort: 30_001, sourceRanges: ['203.0.113.0/24'] },
  frontends: [{ address: '172.190.0.17', port: 80, protocol: 'TCP' }],
  ...{ externalTrafficPolicy: 'Local', sessionAffinity: { timeout: 60 }, forwarding: 'dsr' },
  backends: [backend('10.0.1.10'), backend('10.0.2.10', { state: 'terminating' })],
};

/** FROM_OUTSIDE 1, AFFINITY 2, SOURCE_RANGES 4, DSR 8, TWO_SCOPES 32, ANY_PORT 64. */
const EXPECTED = [
  'ipv4 172.190.0.17 0/0 0 -> 0,0,0,0,65',
  'ipv4 172.190.0.17 80/6 0 -> 1,1,60,1,47',
  'ipv4 172.190.0.17 80/6 1 -> 1,1,60,1,15',
  'ipv4 192.168.1.5 30001/6 0 -> 1,1,60,2,47',
  'ipv4 192.168.1.5 30001/6 1 -> 1,1,60,2,15',
  'ipv4 address 10.0.1.10 8000/6 1',
  'ipv4 address 10.0.2.10 8000/6 1',
  'ipv4 backend 1 10.0.1.10 8000/6 0 1',
  'ipv4 backend 2 10.0.2.10 8000/6 1 1',
  'ipv4 range 1 203.0.113.0/24',
  'ipv4 rev_nat 1 172.190.0.17 80 1',
  'ipv4 rev_nat 2 192.168.1.5 30001 1',
];

test('a service is in the maps as the datapath reads it', async () => {
  const services = memoryServices();
  await start(services, noIds()).apply([front]);
  const { memory } = services;
  assert.deepEqual(
    services.text().filter((text) => !text.includes(' table ')),
    EXPECTED,
  );
  const external = memory.ipv4.backendTables.get('1 0');
  const internal = memory.ipv4.backendTables.get('1 1');
  assert.deepEqual([...(external?.ids ?? [])], [1]);
  assert.deepEqual([...(internal?.ids ?? [])], [1]);
  assert.equal(memory.ipv6.services.size, 0);
});

test('the same again writes nothing, nor does a daemon that starts over it', async () => {
  const services = memoryServices();
  const next = noIds();
  const bench = start(services, next);
  const specs = [web(), dns, front];
  await bench.apply(specs);
  const written = services.writes();
  assert.equal((await bench.apply(specs)).changes, 0);
  assert.equal((await start(services, next).apply(specs)).changes, 0);
  assert.equal(services.writes(), written);
});

test('a change writes what differs', async () => {
  const services = memoryServices();
  const bench = start(services, noIds());
  await bench.apply([web(), dns]);
  const more = [backend('10.0.1.10'), backend('10.0.2.10'), backend('10.0.2.11')];
  // a backend, its address, the table, and the frontend, which counts backends
  assert.equal((await bench.apply([web({ backends: more }), dns])).changes, 4);
});

test('a service keeps its ids over restarts and under another name', async () => {
  const services = memoryServices();
  const next = noIds();
  const idsIn = async (specs: Partial<ServiceSpec>[]) => {
    const { ids } = await start(services, next).apply(specs);
    return [...ids.values()];
  };
  const first = await idsIn([web(), dns]);
  assert.deepEqual(await idsIn([dns, web()]), first.toReversed());
  assert.deepEqual(await idsIn([web({ name: 'renamed' }), dns]), first);
});

test('an id that was given back is not given out again, also by a daemon that starts later', async () => {
  const services = memoryServices();
  const next = noIds();
  const before = await start(services, next).apply([dns, web()]);
  const used = [...before.ids.values()][1];
  await start(services, next).apply([dns]);
  const after = await start(services, next).apply([dns, web()]);
  const fresh = [...after.ids.values()][1];
  assert.ok(used && fresh);
  assert.ok(fresh.service > used.service);
  assert.deepEqual(
    fresh.backends.filter((id) => used.backends.includes(id)),
    [],
  );
  assert.deepEqual(
    fresh.revNat.filter((index) => used.revNat.includes(index)),
    [],
  );
});

test('a frontend that goes to another service keeps its row and its index', async () => {
  const services = memoryServices();
  const bench = start(services, noIds());
  const other = { ...dns, frontends: specOf().frontends, backends: [backend('10.0.2.99')] };
  const before = await bench.apply([web(), dns]);
  const [kept] = [...before.ids.values()];
  const after = await bench.apply([{ ...other, name: 'dns' }]);
  assert.deepEqual([...after.ids.values()][0]?.revNat, kept?.revNat);
  assert.ok(services.text().some((text) => text.startsWith('ipv4 10.96.0.1 80/6 0')));
});

test('what goes is told with the entries that go with it', async () => {
  const services = memoryServices();
  const bench = start(services, noIds());
  const { ids } = await bench.apply([web(), dns]);
  const [, dnsIds] = [...ids.values()];
  await bench.apply([web({ backends: [backend('10.0.1.10')] }), { ...dns, backends: [] }]);
  assert.deepEqual(bench.flushed, [
    {
      ipv4: { indexes: new Set(), backends: new Set(dnsIds?.backends) },
      ipv6: { indexes: new Set(), backends: new Set() },
    },
  ]);
  await bench.apply([web({ backends: [backend('10.0.1.10')] })]);
  assert.deepEqual(bench.flushed[1]?.ipv4.indexes, new Set(dnsIds?.revNat));
  assert.ok(
    services.memory.ipv4.forgotten.some(({ services: gone }) => gone.has(dnsIds?.service ?? 0)),
  );
});

const STEPS: Partial<ServiceSpec>[][] = [
  [web(), dns, front],
  [web({ algorithm: 'random', backends: [backend('10.0.2.10', { weight: 3 })] }), dns, front],
  [web({ internalTrafficPolicy: 'Local' }), front],
  [web({ backends: [] }), { ...front, sourceRanges: ['198.51.100.0/24'] }],
  [dns, { ...front, externalTrafficPolicy: 'Cluster', sourceRanges: [] }, web({ name: 'w2' })],
  [{ ...web(), frontends: front.frontends ?? [] }],
  [],
];

test('nothing names what is not there after any single write', async () => {
  const services = memoryServices(assertNothingDangles);
  const bench = start(services, noIds());
  for (const specs of STEPS) await bench.apply(specs);
  assert.deepEqual(services.text(), []);
});

test('cut short after any write, nothing dangles and the next start finishes', async () => {
  for (const [i, specs] of STEPS.entries()) {
    const before = STEPS.slice(0, i);
    for (let limit = 1; ; limit++) {
      let left = Number.POSITIVE_INFINITY;
      const services = memoryServices((memory) => {
        assertNothingDangles(memory);
        if (--left === 0) throw new Error('killed');
      });
      const next = noIds();
      const bench = start(services, next);
      for (const earlier of before) await bench.apply(earlier);
      left = limit;
      const outcome = await bench.apply(specs).catch((error: Error) => error);
      left = Number.POSITIVE_INFINITY;
      await start(services, next).apply(specs);
      const wanted = memoryServices();
      const clean = start(wanted, next);
      await clean.apply(specs);
      assert.deepEqual(shapeOf(services), shapeOf(wanted));
      if (!(outcome instanceof Error)) break;
      assert.equal(outcome.message, 'killed');
    }
  }
});

/** Without ids, which two runs may give differently. */
function shapeOf(services: MemoryServices): string[] {
  const { memory } = services;
  return [
    ...[...memory.ipv4.services.values()].map(
      ({ addr, port, backends, flags, scope }) =>
        `${addr.join('.')}:${port} ${backends} ${flags} ${scope}`,
    ),
    ...[...memory.ipv4.addresses].map(([text, { count }]) => `${text} ${count}`),
    ...[...memory.ipv4.backends.values()].map(
      ({ addr, port, state }) => `${addr.join('.')}:${port} ${state}`,
    ),
    `${memory.ipv4.revNat.size} ${memory.ipv4.ranges.size} ${memory.ipv4.backendTables.size}`,
  ].sort();
}

/** Which of the clients a load balancer lets in. */
function letIn({ memory }: MemoryServices, clients: readonly string[]): string[] {
  const { SERVICE_FROM_OUTSIDE, SERVICE_SOURCE_RANGES } = service_flag;
  const [row] = [...memory.ipv4.services.values()].filter(({ port }) => port === 80);
  if (!row || (row.flags & SERVICE_FROM_OUTSIDE) === 0) return [];
  if ((row.flags & SERVICE_SOURCE_RANGES) === 0) return [...clients];
  const ranges = [...memory.ipv4.ranges.values()].filter(({ serviceId }) => serviceId === row.id);
  return clients.filter((client) =>
    ranges.some(({ prefix }) => prefixContains(prefix, parseAddress(client).bytes)),
  );
}

test('while source ranges change, nobody is let in but by the old or the new ones', async () => {
  const clients = ['203.0.113.5', '198.51.100.5', '192.0.2.5'];
  const seen: string[][] = [];
  const services = memoryServices((now) => seen.push(letIn(now, clients)));
  const bench = start(services, noIds());
  const [a, b] = ['203.0.113.0/24', '198.51.100.0/24'] as const;
  let before: string[] = [];
  for (const sourceRanges of [[a], [b], [a, b], [], [b], [a]]) {
    await bench.apply([{ ...front, externalTrafficPolicy: 'Cluster', sourceRanges }]);
    const after = letIn(services, clients);
    for (const now of seen.splice(0)) {
      for (const client of clients) {
        const by = [before, after].filter((list) => list.includes(client)).length;
        assert.ok(now.includes(client) ? by > 0 : by < 2, `${client} from ${before} to ${after}`);
      }
    }
    before = after;
  }
});

test('a backend that weight or policy leave out takes no connections of who stays with it', async () => {
  const services = memoryServices();
  const bench = start(services, noIds());
  const backends = [
    backend('10.0.1.10'),
    backend('10.0.2.10'),
    backend('10.0.2.11', { weight: 0 }),
  ];
  const states = () => [...services.memory.ipv4.backends.values()].map(({ state }) => state);
  await bench.apply([{ ...front, externalTrafficPolicy: 'Cluster', backends }]);
  assert.deepEqual(states(), [0, 0, 0x30]);
  await bench.apply([{ ...front, externalTrafficPolicy: 'Local', backends }]);
  assert.deepEqual(states(), [0, 0x10, 0x30]);
  const both = { externalTrafficPolicy: 'Local', internalTrafficPolicy: 'Local' } as const;
  await bench.apply([{ ...front, ...both, backends }]);
  assert.deepEqual(states(), [0, 0x30, 0x30]);
});

/** Services of two backends each, at addresses of their own. */
function crowd(count: number, subnet: number, name = 's'): Partial<ServiceSpec>[] {
  return Array.from({ length: count }, (_, i) => ({
    name: `${name}${i}`,
    frontends: [{ address: `10.96.${name.length}.${i}`, port: 80, protocol: 'TCP' }],
    backends: [1, 2].map((place) => backend(`10.${place}.${subnet}.${i}`)),
  }));
}

test('where old and new do not fit beside each other, there is room all the same', async () => {
  const room = 340;
  const services = memoryServices((now) => {
    assertNothingDangles(now);
    const { backends } = now.memory.ipv4;
    if (backends.size <= room) return;
    backends.delete([...backends.keys()].at(-1) ?? '');
    throw full();
  });
  const bench = start(services, noIds());
  const [old, moved] = [crowd(100, 1), crowd(100, 2)];
  await bench.apply(old);
  await bench.apply(moved);
  assert.equal(services.memory.ipv4.backends.size, 200);
  const others = crowd(100, 3, 'other');
  await bench.apply(others);
  assert.equal((await bench.apply(others)).changes, 0);
  assert.equal(services.memory.ipv4.services.size, 200);
  await assert.rejects(bench.apply([...others, ...crowd(100, 4)]), { errno: 7 });
});

function full(): KernelError {
  const words = { errnoName: 'E2BIG', reason: 'argument list too long' };
  return new KernelError({ operation: 'update keys of backends', errno: 7, ...words });
}

test('without a record of ids none is given out that is in use', async () => {
  const services = memoryServices();
  const before = await start(services, noIds()).apply([web(), dns]);
  const after = await start(services, noIds()).apply([web(), dns, front]);
  const idsOf = ({ ids }: Served) => [...ids.values()].map(({ service }) => service);
  assert.deepEqual(idsOf(after).slice(0, 2), idsOf(before));
  assert.equal(new Set(idsOf(after)).size, 3);
});

test('the last indexes go from one service to another in one change', async () => {
  const services = memoryServices();
  const bench = start(services, noIds());
  const everyPort = (address: string): Partial<ServiceSpec> => ({
    name: address,
    frontends: Array.from({ length: 65_535 }, (_, i) => {
      return { address, port: i + 1, protocol: 'TCP' };
    }),
  });
  await bench.apply([everyPort('10.96.0.1')]);
  const { ids } = await bench.apply([everyPort('10.96.0.2')]);
  assert.equal(new Set([...ids.values()].flatMap(({ revNat }) => revNat)).size, 65_535);
  assert.equal(services.memory.ipv4.revNat.size, 65_535);
  assert.equal(bench.flushed[0]?.ipv4.indexes.size, 65_535);
});
