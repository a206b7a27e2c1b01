import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type AgentControl, buildApi, serveApi } from '../../agent/daemon/api.ts';
import type { Status } from '../../agent/daemon/status.ts';
import { SekishoError } from '../../agent/lib/errors.ts';
import type { ServiceView } from '../../agent/services/view.ts';

const WEB = {
  name: 'web-1',
  interface: 'lxc-web',
  addresses: ['10.0.1.10'],
  id: 1,
  source: 'api' as const,
  ifindex: 7,
  state: 'ready' as const,
};

const PASS = {
  family: 'ipv4' as const,
  table: 'ct_tcp' as const,
  alive: 3,
  deleted: 2,
  skipped: 0,
  failed: 0,
  natDeleted: 4,
  completed: 0,
  capacity: 1000,
  classes: {},
  evicted: 0,
  durationMs: 1.5,
};

const RESIZED = {
  family: 'ipv4' as const,
  table: 'ct_tcp' as const,
  status: 'resized' as const,
  from: 1024,
  to: 2048,
  copied: 7,
  durationMs: 1.5,
};

function control(overrides: Partial<AgentControl> = {}): AgentControl {
  return {
    status: async () => ({ version: '1', healthy: true }) as Status,
    health: () => ({ healthy: true, problems: [] }),
    listEndpoints: () => [WEB],
    addEndpoint: async () => ({ endpoint: WEB, created: true }),
    deleteEndpoint: async () => WEB,
    async *listServices() {},
    invalidServices: () => [],
    getService: () => assert.fail('nobody asks for it'),
    applyServices: async () => [],
    deleteService: () => assert.fail('nobody asks for it'),
    collect: async () => ({ passes: [PASS], failures: [] }),
    resize: async () => [RESIZED],
    ...overrides,
  };
}

const body = ({ name, interface: link, addresses } = WEB) => ({ name, interface: link, addresses });

test('a new endpoint is answered with 201, a repeated one with 200', async () => {
  for (const created of [true, false]) {
    const seen: unknown[] = [];
    const app = buildApi(
      control({
        async addEndpoint(request) {
          seen.push(request);
          return { endpoint: WEB, created };
        },
      }),
    );
    const answer = await app.inject({ method: 'POST', url: '/v1/endpoints', payload: body() });
    assert.equal(answer.statusCode, created ? 201 : 200);
    assert.deepEqual(answer.json(), WEB);
    assert.deepEqual(seen, [body()]);
  }
});

test('a request that is not valid says what was expected, and reaches nobody', async () => {
  const app = buildApi(
    control({
      addEndpoint: () => assert.fail('an invalid request was passed on'),
    }),
  );
  const cases: [object | string, RegExp][] = [
    [{}, /name/],
    [{ ...body(), addresses: [] }, /addresses: expected at least one IP address/],
    [{ ...body(), interface: 'far-too-long-a-name' }, /interface: expected an interface name/],
    [{ ...body(), colour: 'red' }, /colour/],
  ];
  for (const [payload, message] of cases) {
    const answer = await app.inject({ method: 'POST', url: '/v1/endpoints', payload });
    assert.equal(answer.statusCode, 400);
    assert.equal(answer.json().code, 'E_USAGE');
    assert.match(answer.json().message, message);
  }
});

test('a resize names a table, one family or both, and a size', async () => {
  const seen: unknown[] = [];
  const app = buildApi(
    control({
      async resize(request) {
        seen.push(request);
        return [RESIZED];
      },
    }),
  );
  const post = (payload: object) => app.inject({ method: 'POST', url: '/v1/maps/resize', payload });
  const orders = [
    { table: 'nat', entries: 1024 },
    { table: 'ctAny', family: 'ipv6', entries: 16_777_216 },
  ];
  for (const order of orders) {
    const answer = await post(order);
    assert.equal(answer.statusCode, 200);
    assert.deepEqual(answer.json(), { resizes: [RESIZED] });
  }
  assert.deepEqual(seen, orders);
  const wrong: [object, RegExp][] = [
    [{}, /^table: missing/],
    [{ table: 'snat', entries: 2048 }, /^table: expected ctTcp, ctAny or nat/],
    [{ table: 'nat', entries: 1023 }, /^entries: expected a whole number from 1024 to 16777216/],
    [{ table: 'nat', entries: 16_777_217 }, /^entries: /],
    [{ table: 'nat', entries: 2048, family: 'ipv5' }, /^family: expected ipv4 or ipv6/],
    [{ table: 'nat', entries: 2048, force: true }, /force/],
  ];
  for (const [order, message] of wrong) {
    const answer = await post(order);
    assert.deepEqual([answer.statusCode, answer.json().code], [400, 'E_USAGE']);
    assert.match(answer.json().message, message);
  }
  assert.equal(seen.length, orders.length);
});

test('a wrong address is named', async () => {
  const payload = { ...body(), addresses: ['10.0.1.10', '10.0.1.300'] };
  const answer = await buildApi(control()).inject({
    method: 'POST',
    url: '/v1/endpoints',
    payload,
  });
  assert.equal(answer.statusCode, 400);
  assert.deepEqual(answer.json(), {
    code: 'E_BAD_ADDRESS',
    message: 'addresses[1]: expected a unicast IP address, got "10.0.1.300"',
    hint: 'for example 10.0.1.10 or fd00:1::10',
  });
});

test('errors keep their code, message and hint', async () => {
  const statuses = {
    E_NO_INTERFACE: 400,
    E_NOT_FOUND: 404,
    E_CONFLICT: 409,
    E_KERNEL: 500,
  } as const;
  for (const [code, status] of Object.entries(statuses) as [keyof typeof statuses, number][]) {
    const app = buildApi(
      control({
        async deleteEndpoint() {
          throw new SekishoError(code, 'no', { hint: 'try another' });
        },
      }),
    );
    const answer = await app.inject({ method: 'DELETE', url: '/v1/endpoints/web-1' });
    assert.equal(answer.statusCode, status);
    assert.deepEqual(answer.json(), { code, message: 'no', hint: 'try another' });
  }
});

test('a bug is answered with 500 and a body that is not JSON with 400', async () => {
  const app = buildApi(
    control({
      async collect() {
        throw new Error('boom');
      },
    }),
  );
  const bug = await app.inject({ method: 'POST', url: '/v1/gc/run' });
  assert.equal(bug.statusCode, 500);
  assert.equal(bug.json().code, 'E_INTERNAL');
  const garbled = await app.inject({
    method: 'POST',
    url: '/v1/endpoints',
    headers: { 'content-type': 'application/json' },
    payload: '{',
  });
  assert.equal(garbled.statusCode, 400);
  assert.equal(garbled.json().code, 'E_USAGE');
});

test('an unknown path is answered in the same shape', async () => {
  const answer = await buildApi(control()).inject({ method: 'GET', url: '/v2/status' });
  assert.equal(answer.statusCode, 404);
  assert.deepEqual(answer.json(), { code: 'E_NOT_FOUND', message: 'there is no GET /v2/status' });
});

test('endpoints, passes and health are listed', async () => {
  const app = buildApi(control({ health: () => ({ healthy: false, problems: ['a hook'] }) }));
  const get = async (url: string) => (await app.inject({ method: 'GET', url })).json();
  assert.deepEqual(await get('/v1/endpoints'), { endpoints: [WEB] });
  const passes = await app.inject({ method: 'POST', url: '/v1/gc/run' });
  assert.deepEqual(passes.json(), { passes: [PASS], failures: [] });
  const health = await app.inject({ method: 'GET', url: '/v1/healthz' });
  assert.equal(health.statusCode, 503);
  assert.deepEqual(health.json(), { healthy: false, problems: ['a hook'] });
});

test('a name may hold what a URL must escape', async () => {
  const seen: string[] = [];
  const app = buildApi(
    control({
      async deleteEndpoint(name) {
        seen.push(name);
        return WEB;
      },
    }),
  );
  const name = 'default/web.1';
  const url = `/v1/endpoints/${encodeURIComponent(name)}`;
  assert.equal((await app.inject({ method: 'DELETE', url })).statusCode, 200);
  assert.deepEqual(seen, [name]);
});

test('services are listed as they come, with those that are not valid', async () => {
  const views = ['a', 'b', 'c'].map((name) => {
    return { name, backends: [{ service: name }] } as ServiceView;
  });
  const invalid = [{ name: 'd', reason: 'type: expected …' }];
  const empty = buildApi(control());
  const app = buildApi(
    control({
      async *listServices() {
        yield views.slice(0, 2);
        yield [];
        yield views.slice(2);
      },
      invalidServices: () => invalid,
    }),
  );
  const get = async (of: typeof app, url: string) => {
    const answer = await of.inject({ method: 'GET', url });
    assert.match(answer.headers['content-type'] ?? '', /^application\/json/);
    return answer.json();
  };
  assert.deepEqual(await get(app, '/v1/services'), { services: views, invalid });
  assert.deepEqual(await get(app, '/v1/backends'), {
    backends: views.flatMap(({ backends }) => backends),
  });
  assert.deepEqual(await get(empty, '/v1/services'), { services: [], invalid: [] });
  assert.deepEqual(await get(empty, '/v1/backends'), { backends: [] });
});

test('services that cannot be counted are an error, not half an answer', async () => {
  const app = buildApi(
    control({
      // biome-ignore lint/correctness/useYield: it fails before the first one
      async *listServices() {
        throw new SekishoError('E_KERNEL', 'no');
      },
    }),
  );
  const answer = await app.inject({ method: 'GET', url: '/v1/services' });
  assert.deepEqual([answer.statusCode, answer.json().code], [500, 'E_KERNEL']);
});

test('a service may have the longest name that is valid', async () => {
  const seen: string[] = [];
  const app = buildApi(
    control({
      async getService(name) {
        seen.push(name);
        return { name } as ServiceView;
      },
    }),
  );
  const name = `a/${'b'.repeat(251)}`;
  const url = `/v1/services/${encodeURIComponent(name)}`;
  assert.equal((await app.inject({ method: 'GET', url })).statusCode, 200);
  assert.deepEqual(seen, [name]);
});

test('a request of many services holds nothing else', async () => {
  const app = buildApi(control({ applyServices: () => assert.fail('it was passed on') }));
  for (const [payload, message] of [
    [{ services: [], force: true }, /force/],
    [{ services: {} }, /^services: expected a list/],
    [{}, /^name: missing/],
  ] as const) {
    const answer = await app.inject({ method: 'POST', url: '/v1/services', payload });
    assert.deepEqual([answer.statusCode, answer.json().code], [400, 'E_USAGE']);
    assert.match(answer.json().message, message);
  }
});

test('the socket replaces an abandoned one, is its owner’s alone, and goes', async (t) => {
  const path = join(scratch(t), 'agent.sock');
  writeFileSync(path, '');
  const server = await serveApi(control(), path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(await statusOver(path), 200);
  await server[Symbol.asyncDispose]();
  assert.throws(() => statSync(path), { code: 'ENOENT' });
});

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'sekisho-api-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

function statusOver(socketPath: string): Promise<number | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
  request({ socketPath, path: '/v1/status' }, (response) => {
    response.resume();
    resolve(response.statusCode);
  })
    .on('error', reject)
    .end();
  return promise;
}
