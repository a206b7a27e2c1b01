import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { launchAgent, startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { inconsistentPins, kernelObjects } from '../lib/kernel-objects.ts';
import { atLength } from '../lib/long.ts';
import { openWire } from '../lib/raw-socket.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { assertIdle, openIdle } from './idle.ts';

const KILLS = atLength(20, 50);
const FEWEST_KILLS = 4;
/** For all kills together: on an emulated machine a start takes long, and they are fewer. */
const BUDGET_MS = atLength(80_000, 200_000);
const EARLIEST_MS = 50;
const LOAD_PORT = 7001;

test('a daemon that is killed again and again at any instant of its start', async (t) => {
  await using scene = await managedScene();
  const { topo, world } = scene;
  const [node, client] = [nth(topo.nodes), nth(scene.pods)];
  await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(node.podCIDRs) });
  const targets = FAMILIES.map((family) => {
    const host = nth(topo.worldAddresses)[family];
    return { host, port: LOAD_PORT };
  });
  for (const target of targets) await world.echoServe(target);
  await openIdle(scene);
  await client.startLoad({ targets });
  await scene.agent.kill9();
  const [agent, startMs] = await timed(() => startAgent(topo));
  const before = await kernelObjects(node);
  await agent.kill9();
  const kills = Math.max(FEWEST_KILLS, Math.min(KILLS, Math.floor((2 * BUDGET_MS) / startMs)));
  const early = await killWhileStarting(scene, kills, startMs);
  t.diagnostic(
    `a start takes ${startMs} ms; killed ${kills} times, ${early} of them before its end`,
  );

  await t.test('lets new connections through while it is down', async () => {
    const { connections } = await client.loadSoFar();
    const opened = async () => (await client.loadSoFar()).connections - connections;
    await until('100 connections', async () => (await opened()) >= 100);
  });

  await t.test('starts again without help', async () => {
    await startAgent(topo);
  });

  await t.test('has lost no connection', async () => {
    const { streams, connections, broken, datagrams, resent, unanswered } = await client.stopLoad();
    t.diagnostic(`${connections} connections, ${datagrams} datagrams (${resent} resent)`);
    assert.deepEqual(
      streams.map(({ intact, error }) => ({ intact, error })),
      targets.map(() => ({ intact: true, error: null })),
    );
    assert.deepEqual(broken, {});
    assert.equal(unanswered, 0);
    await assertIdle(scene);
  });

  await t.test('has let no packet with a private source out', async () => {
    const leaks = (await wire.take()).map(({ frame }) => dissect(frame).ip);
    assert.deepEqual(leaks, []);
  });

  await t.test('has left nothing behind', async () => {
    await untilEqual(before, () => kernelObjects(node));
    assert.deepEqual(inconsistentPins(node), []);
  });
});

/** The kernel frees programs a little after their last user is gone. */
async function untilEqual<T>(wanted: T, read: () => Promise<T>): Promise<void> {
  const isEqual = async () => isDeepStrictEqual(await read(), wanted);
  await until('it', isEqual).catch(() => {});
  assert.deepEqual(await read(), wanted);
}

/** Instants are spread evenly over the start, a little past its end, in no order. */
async function killWhileStarting({ topo }: ManagedScene, kills: number, startMs: number) {
  const latest = startMs * 1.1;
  let early = 0;
  for (let i = 0; i < kills; i++) {
    const step = (i * 29) % kills;
    const agent = launchAgent(topo);
    await sleep(EARLIEST_MS + ((latest - EARLIEST_MS) * step) / kills);
    if (!agent.logs.some(({ msg }) => msg === 'ready')) early++;
    await agent.kill9();
    assert.ok(existsSync(join(nth(topo.nodes).bpffs, 'node')));
  }
  return early;
}

async function timed<T>(action: () => Promise<T>): Promise<[T, number]> {
  const begun = performance.now();
  return [await action(), Math.round(performance.now() - begun)];
}
