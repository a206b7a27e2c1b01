import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openServiceStore } from '../../agent/daemon/service-store.ts';
import { specOf } from '../lib/service-specs.ts';

function scratch(t: TestContext): { directory: string; file: string } {
  const directory = mkdtempSync(join(tmpdir(), 'sekisho-services-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return { directory, file: join(directory, 'services.json') };
}

test('services come back as they were stored, for who opens the store next', async (t) => {
  const { directory } = scratch(t);
  const services = [
    specOf({ name: 'a/b.c-d_e', sessionAffinity: { timeout: 60 } }),
    specOf({ name: 'web', sourceRanges: ['203.0.113.0/24'] }),
  ];
  const store = openServiceStore(directory);
  assert.deepEqual(store.before, []);
  await store.save(services);
  assert.deepEqual(openServiceStore(directory).before, services);
  await store.save([]);
  assert.deepEqual(openServiceStore(directory).before, []);
});

test('what is stored is its owner’s alone, whatever was left there', async (t) => {
  const { directory, file } = scratch(t);
  writeFileSync(`${file}.new`, 'cut short', { mode: 0o644 });
  await openServiceStore(directory).save([specOf()]);
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test('a write that fails leaves what was there, and says which file', async (t) => {
  const { directory, file } = scratch(t);
  const store = openServiceStore(directory);
  await store.save([specOf()]);
  const before = readFileSync(file, 'utf8');
  mkdirSync(`${file}.new`);
  await assert.rejects(store.save([]), {
    code: 'E_KERNEL',
    message: `cannot write ${file}: EISDIR`,
  });
  assert.equal(readFileSync(file, 'utf8'), before);
});

test('a store that cannot be understood is refused, not forgotten', (t) => {
  const { directory, file } = scratch(t);
  for (const text of ['', '{"version":1,"services":[{"name":"web","colour":"red"}]}']) {
    writeFileSync(file, text);
    assert.throws(() => openServiceStore(directory), { code: 'E_LAYOUT', hint: /^remove it; / });
  }
});
