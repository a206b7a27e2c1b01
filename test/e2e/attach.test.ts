import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ATTACH_MODES, type AttachMode } from '../lib/attach-modes.ts';
import { sekishoJson, startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';

const PORT = 7000;
const COUNT = 20;
const noTcx = ATTACH_MODES.find(({ attach }) => attach === 'tcx')?.skip ?? false;

for (const routing of ['fast', 'stack']) {
  test(`a change from TCX to TC and back, with ${routing} routing`, { skip: noTcx }, async (t) => {
    await using scene = await bareScene();
    const { topo } = scene;
    const { ns, podCIDRs } = nth(topo.nodes);
    await using wire = await openWire(topo.world, 'eth0', { sources: Object.values(podCIDRs) });
    let agent = await startAgent(topo, { datapath: { routing, attach: 'tcx' } });
    await openConnections(scene);
    for (const attach of ['tc', 'tcx'] as const) {
      await t.test(`no connection notices the one to ${attach}`, async () => {
        const traffic = keepTalking(scene);
        await agent.stop();
        agent = await startAgent(topo, { datapath: { routing, attach } });
        assert.ok((await traffic.stop()) > 0);
        await assertAttached(scene, attach);
        const { stdout } = await ns.exec('tc', 'qdisc', 'show', 'dev', 'eth0');
        assert.equal(/clsact/.test(stdout), attach === 'tc');
      });
    }
    const leaks = (await wire.take()).map(({ frame }) => dissect(frame).ip);
    assert.deepEqual(leaks, [], 'a pod left bare');
  });
}

async function openConnections({ topo, world, pods }: Scene): Promise<void> {
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    await world.listen({ host, port: PORT });
    await nth(pods).connectMany({ prefix: family, count: COUNT, host, port: PORT });
  }
}

/** Speaks on every connection, round after round; rejects at the first one that fell silent. */
function keepTalking({ pods }: Scene): { stop(): Promise<number> } {
  let isOver = false;
  const talk = async () => {
    let rounds = 0;
    for (; !isOver; rounds++) {
      for (const prefix of FAMILIES) {
        const census = await nth(pods).exchangeMany({ prefix, count: COUNT, text: `${rounds}` });
        assert.deepEqual(census, { alive: COUNT, dead: {} });
      }
    }
    return rounds;
  };
  const rounds = talk();
  rounds.catch(() => {});
  return {
    stop() {
      isOver = true;
      return rounds;
    },
  };
}

async function assertAttached({ topo }: Scene, attach: AttachMode): Promise<void> {
  type Hook = { attached: boolean; attach: AttachMode };
  const { hooks } = await sekishoJson<{ hooks: Hook[] }>(topo, 'status');
  assert.equal(hooks.length, 8);
  assert.ok(hooks.every((hook) => hook.attached && hook.attach === attach));
}
