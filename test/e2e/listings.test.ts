import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sekisho, sekishoJson, sekishoText } from '../lib/daemon.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { slowly } from '../lib/wait.ts';

const PORT = 8000;
const LOCAL_PORT = 40_000;
/** Below the NAT range. */
const LOW_PORT = 10_000;
/** What is no TCP, the companion for ICMP errors, outlives the test on a slow machine, too. */
const SETTINGS = { conntrack: { timeouts: { any: '1h' } } };

test('what the tables hold is printed as published', async (t) => {
  await using scene = await managedScene({ settings: SETTINGS });
  const { topo } = scene;
  for (const family of FAMILIES) await openConnections(scene, family);

  for (const family of FAMILIES) {
    const pod = endpoint(nth(topo.pods).addresses[family], LOCAL_PORT);
    const low = endpoint(nth(topo.pods).addresses[family], LOW_PORT);
    const world = endpoint(nth(topo.worldAddresses)[family], PORT);
    const node = endpoint(nth(topo.nodes).addresses[family], LOCAL_PORT);

    await t.test(`ct list prints a connection (${family})`, async () => {
      const line = await lineWith(scene, `TCP OUT ${pod} -> ${world}`, 'ct', 'list');
      assert.match(
        line,
        /^TCP OUT \S+ -> \S+ expires=\d+ Packets=0 Bytes=0 RxFlagsSeen=0x[0-9a-f]{2} LastRxReport=\d+ TxFlagsSeen=0x[0-9a-f]{2} LastTxReport=\d+ Flags=0x0010 \[ SeenNonSyn \] RevNAT=0 SourceSecurityID=\d+ BackendID=0$/,
      );
    });

    await t.test(`ct list --time-diff says what is left (${family})`, async () => {
      const line = await lineWith(scene, `TCP OUT ${pod}`, 'ct', 'list', '--time-diff');
      const left = Number(/expires=\d+ \(remaining: (\d+) sec\(s\)\) Packets/.exec(line)?.[1]);
      assert.ok(left > 8000 - slowly(100) && left <= 8000, `${left} s of 2h13m20s`);
    });

    await t.test(`ct list prints the companion for ICMP errors (${family})`, async () => {
      const from = endpoint(nth(topo.pods).addresses[family], 0);
      await lineWith(scene, `OUT ${from} -> `, 'ct', 'list', '--kind', 'out');
    });

    await t.test(`nat list prints both halves of a pair (${family})`, async () => {
      const forward = await lineWith(scene, `TCP OUT ${pod} -> ${world} XLATE_SRC ${node}`);
      assert.match(forward, / Created=\d+sec ago NeedsCT=0$/);
      const reverse = await lineWith(scene, `TCP IN ${world} -> ${node} XLATE_DST ${pod}`);
      assert.match(reverse, / Created=\d+sec ago NeedsCT=0$/);
    });

    await t.test(`filters keep what they name (${family})`, async () => {
      const stdout = await sekishoText(topo, 'ct', 'list', '--sport', String(LOW_PORT));
      const lines = stdout.trimEnd().split('\n');
      assert.equal(lines.length, FAMILIES.length);
      assert.ok(lines.some((line) => line.startsWith(`TCP OUT ${low} -> ${world} `)));
    });
  }

  await t.test('-o json prints one document with the same entries', async () => {
    const rows = await sekishoJson<Record<string, unknown>[]>(topo, 'nat', 'list');
    assert.equal(rows.length, 2 * 2 * FAMILIES.length);
  });

  await t.test('nat ports counts the ports towards a destination', async () => {
    const { stdout, code } = await sekisho(topo, 'nat', 'ports', '--top', '1');
    assert.equal(code, 0);
    assert.match(stdout, /TCP +\S+ +\S+:8000 +2 +32768 +0\.0%/);
  });

  await t.test('nat retries counts the attempts', async () => {
    const stdout = await sekishoText(topo, 'nat', 'retries');
    assert.match(stdout, /^0: [1-9]/m);
  });

  await t.test('ct flush ends the flows that it names, and no others', async () => {
    const flushed = await sekisho(topo, 'ct', 'flush', '--sport', String(LOW_PORT));
    assert.equal(flushed.code, 0, flushed.stderr);
    const rows = await sekishoJson<unknown[]>(topo, 'nat', 'list', '--sport', String(LOW_PORT));
    assert.deepEqual(rows, []);
    await nth(scene.pods).exchange({ tag: `kept-ipv4` });
  });

  await t.test('what is flushed comes back with the next packet of the pod', async () => {
    for (const table of ['nat', 'ct']) {
      assert.equal((await sekisho(topo, table, 'flush')).code, 0);
      assert.equal((await sekishoJson<unknown[]>(topo, 'nat', 'list')).length, 0);
      for (const family of FAMILIES) await nth(scene.pods).exchange({ tag: `kept-${family}` });
    }
  });

  await t.test('wrong usage exits with 2', async () => {
    assert.equal((await sekisho(topo, 'ct', 'list', '--no-such-option')).code, 2);
    assert.equal((await sekisho(topo, 'no-such-command')).code, 2);
  });
});

async function openConnections(scene: ManagedScene, family: Family): Promise<void> {
  const host = nth(scene.topo.worldAddresses)[family];
  await scene.world.listen({ host, port: PORT });
  const client = nth(scene.pods);
  await client.connect({ tag: `kept-${family}`, host, port: PORT, localPort: LOCAL_PORT });
  await client.connect({ tag: `low-${family}`, host, port: PORT, localPort: LOW_PORT });
  await client.exchange({ tag: `kept-${family}` });
}

/** The one line that contains a text. */
async function lineWith(scene: ManagedScene, text: string, ...command: string[]): Promise<string> {
  const args = command.length === 0 ? ['nat', 'list'] : command;
  const { stdout, stderr, code } = await sekisho(scene.topo, ...args);
  assert.equal(code, 0, stderr);
  const lines = stdout.split('\n').filter((line) => line.includes(text));
  assert.equal(lines.length, 1, `lines with ${text} in:\n${stdout}`);
  return lines[0] ?? '';
}

const endpoint = (address: string, port: number) =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
