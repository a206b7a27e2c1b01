import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isStaged } from '../../agent/engine/pins.ts';
import { launchAgent, sekisho, startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { inconsistentPins } from '../lib/kernel-objects.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Topology } from '../lib/topology.ts';
import { buildVariant, type Edit } from '../lib/variant.ts';
import { assertIdle, IDLE_CONNECTIONS, IDLE_PORT, idlePorts, openIdle } from './idle.ts';
import { OLDER } from './older.ts';

const ABI = 'bpf/abi.h';
const LOAD_PORT = 7001;

/** It remembers something that this version has no place for. */
const NEWER: Edit[] = [
  { file: ABI, find: '\t__u32 backend_id;\n', put: '\t__u16 backend_id;\n\t__u16 quota;\n' },
  {
    file: 'bpf/lib/conntrack.h',
    find: 'entry->backend_id = 0;',
    put: 'entry->backend_id = 0;\n\tentry->quota = 7;',
  },
];

test('tables of another layout are carried over under traffic', async (t) => {
  await using scene = await bareScene();
  const { topo } = scene;
  const [node, client] = [nth(topo.nodes), nth(scene.pods)];
  const older = await buildVariant(join(topo.directory, 'older'), OLDER);
  const before = launchAgent(topo, { binary: older });
  await before.ready();
  await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(node.podCIDRs) });
  await openIdle(scene);
  const ports = await idlePorts(scene);
  const targets = FAMILIES.map((family) => {
    return { host: nth(topo.worldAddresses)[family], port: LOAD_PORT };
  });
  for (const target of targets) await scene.world.echoServe(target);
  await client.startLoad({ targets });
  await before.kill9();

  const agent = await startAgent(topo);
  const moved = agent.logs.filter(({ msg }) => msg === 'table moves to another layout');
  t.diagnostic(moved.map(({ family, table, moved }) => `${family}/${table}: ${moved}`).join());
  await t.test('connections that say nothing are in the new tables', async () => {
    const connections = await listed(topo, 'ct', 'TCP OUT');
    assert.equal(connections.length, IDLE_CONNECTIONS);
    for (const line of connections) assert.match(line, /SeenNonSyn.*BackendID=0$/);
    const translations = await listed(topo, 'nat', 'TCP OUT');
    assert.equal(translations.length, IDLE_CONNECTIONS);
  });

  await t.test('every connection lives, with the port it had', async () => {
    await assertIdle(scene);
    assert.deepEqual(await idlePorts(scene), ports);
  });

  await t.test('nothing broke meanwhile', async () => {
    const report = await client.stopLoad();
    assert.deepEqual(
      report.streams.map(({ intact, error }) => ({ intact, error })),
      targets.map(() => ({ intact: true, error: null })),
    );
    assert.deepEqual(report.broken, {});
    assert.equal(report.unanswered, 0);
    assert.deepEqual(
      (await wire.take()).map(({ frame }) => dissect(frame).ip),
      [],
    );
  });

  await t.test('the new tables are in the pins', async () => {
    for (const family of FAMILIES) {
      assert.deepEqual(readdirSync(join(node.bpffs, family)).filter(isStaged), []);
    }
    assert.deepEqual(inconsistentPins(node), []);
  });

  await t.test('and the next start finds nothing to carry over', async () => {
    await agent.kill9();
    const next = await startAgent(topo);
    assert.deepEqual(
      next.logs.filter(({ msg }) => /layout/.test(msg)),
      [],
    );
    await assertIdle(scene);
  });
});

test('a layout that cannot be carried over is refused, and its programs go on', async () => {
  await using scene = await bareScene();
  const { topo } = scene;
  const newer = await buildVariant(join(topo.directory, 'newer'), NEWER);
  const before = launchAgent(topo, { binary: newer });
  await before.ready();
  await openIdle(scene);
  await before.stop();
  const { code, stderr } = await sekisho(topo, 'agent');
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^sekisho: \S+ipv4\/ct_\w+ is of another version: backend_id, quota would be lost \(sekisho cleanup [^\n]+\)\n$/,
  );
  await assertIdle(scene);
  const host = nth(topo.worldAddresses).ipv4;
  await nth(scene.pods).connect({ tag: 'new', host, port: IDLE_PORT });
  await launchAgent(topo, { binary: newer }).ready();
  await assertIdle(scene);
});

/** What a listing says of the idle connections, in lines that begin so. */
async function listed(topo: Topology, table: 'ct' | 'nat', start: string): Promise<string[]> {
  const { stdout, code } = await sekisho(topo, table, 'list', '--dport', `${IDLE_PORT}`);
  assert.equal(code, 0);
  return stdout.split('\n').filter((line) => line.startsWith(start));
}
