import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { ATTACH_MODES, type AttachMode } from '../lib/attach-modes.ts';
import { crashAtSteps } from '../lib/crash/chain.ts';
import { launchAgent, type Settings, sekishoJson, startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { inconsistentPins, kernelObjects } from '../lib/kernel-objects.ts';
import { atLength } from '../lib/long.ts';
import { openWire } from '../lib/raw-socket.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { buildVariant } from '../lib/variant.ts';
import { assertIdle, openIdle } from './idle.ts';
import { OLDER } from './older.ts';

interface Case {
  name: string;
  /** What is there before the crashes: nothing, this version, or one with other layouts. */
  before: 'nothing' | 'same' | 'older';
  attach: AttachMode;
  /**
   * Steps between two crashes, in a usual run and in a long one. A hook takes three steps: no
   * multiple of it, which would always meet the same of them.
   */
  stride: [usual: number, long: number];
}

const noTcx = ATTACH_MODES.find(({ attach }) => attach === 'tcx')?.skip;
const usual = noTcx ? 'tc' : 'tcx';
const CASES: Case[] = [
  { name: 'the first one', before: 'nothing', attach: usual, stride: [4, 2] },
  { name: 'one that replaces links', before: 'same', attach: 'tcx', stride: [4, 2] },
  { name: 'one that replaces filters', before: 'same', attach: 'tc', stride: [10, 5] },
  { name: 'one that carries tables over', before: 'older', attach: usual, stride: [7, 4] },
];
/** Some crash must have come after one of these: programs were put onto hooks. */
const ATTACHING = ['attach', 'replace', 'filter'];

for (const { name, attach, stride, before } of CASES) {
  const skip = attach === 'tcx' && noTcx;
  const settings = { datapath: { attach } };
  test(`a start that is killed right after any of its steps: ${name}`, { skip }, async (t) => {
    await using scene = await bareScene();
    const { topo } = scene;
    const node = nth(topo.nodes);
    if (before === 'same') await (await startAgent(topo, settings)).kill9();
    if (before === 'older') await startOlder(scene, settings);
    await using wire = await openWire(topo.world, 'eth0', {
      sources: Object.values(node.podCIDRs),
    });
    if (before !== 'nothing') await openIdle(scene);
    const crashes = await crashAtSteps(
      topo,
      { settings, stride: atLength(...stride) },
      async ({ at, step }) => {
        if (before !== 'nothing') await assertIdle(scene, `after ${step} (${at})`);
      },
    );
    t.diagnostic(crashes.map(({ at, step }) => `${at} ${step}`).join(', '));
    assert.ok(crashes.some(({ step }) => ATTACHING.includes(step)));

    await startAgent(topo, settings);
    if (before === 'nothing') await openIdle(scene);
    await assertIdle(scene, 'at last');
    assert.deepEqual(
      (await wire.take()).map(({ frame }) => dissect(frame).ip),
      [],
    );
    const { hooks } = await sekishoJson<{ hooks: { attached: boolean }[] }>(topo, 'status');
    assert.deepEqual(
      hooks.map(({ attached }) => attached),
      Array(8).fill(true),
    );
    const { pins } = await kernelObjects(node);
    assert.deepEqual(
      pins.filter((pin) => /_(new|tc|tcx)$/.test(pin)),
      [],
    );
    assert.deepEqual(inconsistentPins(node), []);
  });
}

async function startOlder({ topo }: Scene, settings: Settings): Promise<void> {
  const binary = await buildVariant(join(topo.directory, 'older'), OLDER);
  const agent = launchAgent(topo, { settings, binary });
  await agent.ready();
  await agent.kill9();
}
