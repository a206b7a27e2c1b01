import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openEndpointStore, type StoredEndpoint } from '../../agent/daemon/endpoint-store.ts';

const WEB = { name: 'web-1', interface: 'lxc-web', addresses: ['10.0.1.10', 'fd00:1::10'] };
const DB = { name: 'db-1', interface: 'lxc-db', addresses: ['10.0.1.11'] };

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'sekisho-endpoints-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

test('endpoints added while running survive a restart, with their numbers', (t) => {
  const directory = scratch(t);
  const first = openEndpointStore(directory, [WEB]);
  assert.equal(first.add(DB).id, 2);
  const second = openEndpointStore(directory, [WEB]);
  assert.deepEqual(second.list(), [
    { ...WEB, id: 1, source: 'config' },
    { ...DB, id: 2, source: 'api' },
  ]);
  assert.deepEqual(readdirSync(directory), ['endpoints.json']);
});

test('an endpoint that left the configuration is gone; numbers of others stay', (t) => {
  const directory = scratch(t);
  openEndpointStore(directory, [WEB, DB]);
  const store = openEndpointStore(directory, [DB]);
  assert.deepEqual(
    store.list().map(({ name, id }) => [name, id]),
    [['db-1', 2]],
  );
  assert.equal(store.add({ ...WEB, name: 'other' }).id, 1);
});

test('the same endpoint again is no error, however its addresses are written', (t) => {
  const store = openEndpointStore(scratch(t), []);
  const added = store.add(WEB);
  const again = store.add({ ...WEB, addresses: ['fd00:1:0::0010', '10.0.1.10', '10.0.1.10'] });
  assert.equal(again, added);
  assert.equal(store.list().length, 1);
});

test('a name or an address belongs to one endpoint', (t) => {
  const store = openEndpointStore(scratch(t), [WEB]);
  assert.throws(() => store.add({ ...DB, name: 'web-1' }), { code: 'E_CONFLICT' });
  assert.throws(() => store.add({ ...DB, addresses: ['fd00:1:0:0::10'] }), {
    code: 'E_CONFLICT',
    message: 'fd00:1::10 belongs to endpoint web-1',
  });
  assert.equal(store.list().length, 1);
});

test('only endpoints added while running can be deleted', (t) => {
  const store = openEndpointStore(scratch(t), [WEB]);
  store.add(DB);
  assert.equal(store.remove('db-1').name, 'db-1');
  assert.throws(() => store.remove('db-1'), { code: 'E_NOT_FOUND' });
  assert.throws(() => store.remove('web-1'), { code: 'E_CONFLICT' });
});

test('the configuration wins over what was added while running', (t) => {
  const directory = scratch(t);
  openEndpointStore(directory, []).add(DB);
  const dropped: StoredEndpoint[] = [];
  const store = openEndpointStore(directory, [{ ...WEB, addresses: DB.addresses }], (endpoint) =>
    dropped.push(endpoint),
  );
  assert.deepEqual(
    store.list().map(({ name }) => name),
    ['web-1'],
  );
  assert.deepEqual(
    dropped.map(({ name }) => name),
    ['db-1'],
  );
});

test('a file that cannot be understood is left as it is and named', (t) => {
  const directory = scratch(t);
  writeFileSync(join(directory, 'endpoints.json'), '{"version": 9}');
  assert.throws(() => openEndpointStore(directory, []), { code: 'E_LAYOUT' });
});
