import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { keyToWorld, openTables, type RecordName, type Tables, trackFlow } from './flow.ts';

/** A client that has asked and waits says nothing that would repair its connection. */
const LOSSES: RecordName[][] = [['reverse'], ['forward', 'reverse'], ['ct', 'reverse']];
const SERVER_PORT = 7000;
const PATIENCE = 15_000;

test('a client that only waits hears its answer, whatever was lost meanwhile', {
  concurrency: 2,
}, async (t) => {
  await using scene = await managedScene();
  await Promise.all(
    FAMILIES.map((family) => t.test(family, { concurrency: 1 }, (t) => hear(t, scene, family))),
  );
});

async function hear(t: TestContext, scene: ManagedScene, family: Family): Promise<void> {
  const host = nth(scene.topo.worldAddresses)[family];
  await scene.world.listen({ host, port: SERVER_PORT });
  await scene.world.udpListen({ host, port: SERVER_PORT });
  using tables = openTables(scene, family);
  for (const [i, lost] of LOSSES.entries()) {
    const name = `${lost.join(' and ')} lost`;
    await t.test(`TCP, ${name}`, () => hearTcp(scene, tables, family, 40_000 + i, lost));
    await t.test(`UDP, ${name}`, () => hearUdp(scene, tables, family, 40_000 + i, lost));
  }
}

async function hearTcp(
  scene: ManagedScene,
  tables: Tables,
  family: Family,
  localPort: number,
  lost: readonly RecordName[],
): Promise<void> {
  const client = nth(scene.pods);
  const host = nth(scene.topo.worldAddresses)[family];
  const tag = `tcp-${family}-${localPort}`;
  await client.connect({ tag, host, port: SERVER_PORT, localPort });
  trackFlow(
    tables,
    tag,
    keyToWorld(scene, family, 6, { sport: localPort, dport: SERVER_PORT }),
  ).lose(lost);
  await scene.world.say({ tag, text: 'the answer' });
  assert.equal(await client.hear({ tag, timeout: PATIENCE }), 'the answer');
  await client.exchange({ tag });
}

/** Datagrams do not come again by themselves: the server repeats what nobody confirms. */
async function hearUdp(
  scene: ManagedScene,
  tables: Tables,
  family: Family,
  localPort: number,
  lost: readonly RecordName[],
): Promise<void> {
  const client = nth(scene.pods);
  const host = nth(scene.topo.worldAddresses)[family];
  const tag = `udp-${family}-${localPort}`;
  await client.udpOpen({ tag, host, port: SERVER_PORT, localPort });
  await client.udpExchange({ tag });
  trackFlow(
    tables,
    tag,
    keyToWorld(scene, family, 17, { sport: localPort, dport: SERVER_PORT }),
  ).lose(lost);
  const heard = () => client.udpHear({ tag, timeout: 300 }).catch(() => undefined);
  const answer = await until(
    'the answer',
    async () => {
      await scene.world.udpSay({ tag, text: 'the answer' });
      return await heard();
    },
    { timeout: PATIENCE },
  );
  assert.equal(answer, 'the answer');
}
