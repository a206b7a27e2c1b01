import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkConfig } from '../../agent/config/load.ts';
import { type EndpointStore, openEndpointStore } from '../../agent/daemon/endpoint-store.ts';
import { createNode, type NodeKeeper } from '../../agent/daemon/node.ts';
import type { Programs } from '../../agent/engine/attach.ts';
import type { FamilyTables } from '../../agent/engine/reconcile.ts';
import { type Family, parseAddress } from '../../agent/lib/ip.ts';
import { memoryTables } from '../lib/memory-tables.ts';
import { createScratch } from '../lib/scratch.ts';
import { until } from '../lib/wait.ts';

interface Kept extends AsyncDisposable {
  node: NodeKeeper;
  store: EndpointStore;
  bpffs: string;
  tables: Record<Family, FamilyTables>;
  /** How often rows were made to follow a plan, or that failed. */
  passes(): number;
  /** Errors in the log. */
  errors: string[];
}

/** A node without devices and endpoints, over tables in memory: nothing is ever attached. */
function keepNode(): Kept {
  const scratch = createScratch();
  const bpffs = join(scratch.directory, 'pins');
  mkdirSync(bpffs);
  const { config } = checkConfig('', 'test');
  assert.ok(config);
  const tables = memoryTables();
  const store = openEndpointStore(scratch.directory, []);
  const errors: string[] = [];
  const logger = {
    ...{ debug() {}, info() {}, warn() {} },
    error: (_: object, message: string) => void errors.push(message),
  };
  let passes = 0;
  const node = createNode({
    config,
    store,
    context: {
      bpffs,
      programs: {} as Programs,
      attach: 'tc',
      tables,
      scrub: async () => 0,
      logger,
    },
    onReconciled: () => void passes++,
    onApplied() {},
    logger,
  });
  return {
    ...{ node, store, bpffs, tables, errors },
    passes: () => passes,
    async [Symbol.asyncDispose]() {
      await node[Symbol.asyncDispose]();
      scratch.removeSync();
    },
  };
}

test('changes in a row share one refresh, unless it has begun', async () => {
  await using kept = keepNode();
  const { node, tables, passes } = kept;
  for (let i = 0; i < 20; i++) node.changed();
  await node.refresh();
  assert.equal(passes(), 2, 'one for all changes, one asked for');

  const { prefixes } = tables.ipv4;
  const read = prefixes.read.bind(prefixes);
  prefixes.read = () => {
    prefixes.read = read;
    node.changed();
    return read();
  };
  await node.refresh();
  await node.refresh();
  assert.equal(passes(), 5, 'and one more for the change during a refresh');
});

test('an endpoint that could not be removed at once is removed by itself', async () => {
  await using kept = keepNode();
  const { node, store, tables } = kept;
  const { endpoints } = tables.ipv4;
  const [name, address] = ['web', '10.0.1.10'];
  store.add({ name, interface: 'nowhere', addresses: [address] });
  const addr = parseAddress(address).bytes;
  endpoints.set({ addr, endpoint: { ifindex: 900, id: 1, identity: 1, flags: 0, mtu: 1500 } });
  const read = endpoints.read.bind(endpoints);
  endpoints.read = () => {
    endpoints.read = read;
    throw new Error('no memory');
  };
  await assert.rejects(node.deleteEndpoint(name), { message: 'no memory' });
  await until('the row to go', () => read().length === 0);
});

test('a look at the hooks that fails is not the last one', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  await using kept = keepNode();
  const { node, bpffs, errors } = kept;
  await node.refresh();
  const pins = join(bpffs, 'links');
  writeFileSync(pins, 'no directory');
  const looked = async (milliseconds: number) => {
    t.mock.timers.tick(milliseconds);
    await assert.rejects(node.deleteEndpoint('after the look'), { code: 'E_NOT_FOUND' });
    return errors.length;
  };
  assert.equal(await looked(2000), 1);
  assert.equal(await looked(4000), 2);
  rmSync(pins);
});
