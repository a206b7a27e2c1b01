import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { ResizeResult } from '../../agent/engine/resizer.ts';
import { mapById, openPinnedMap } from '../../agent/kernel/map.ts';
import { fillConntrack } from '../lib/crowd.ts';
import { configure, sekisho, sekishoJson, startAgent } from '../lib/daemon.ts';
import { inconsistentPins } from '../lib/kernel-objects.ts';
import { managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { call } from './support.ts';

const SIZE = 8192;
const maps = { ctTcp: SIZE, ctAny: SIZE, nat: SIZE, maxMemoryRatio: 0.02 };
const FOREVER = 0xffff_0000;

describe('a table that is resized by the daemon', () => {
  it('has its size in listings, metrics and pins, and after a restart', async () => {
    await using scene = await managedScene({ settings: { maps } });
    const { topo, agent } = scene;
    const node = nth(topo.nodes);
    const { resizes } = await sekishoJson<{ resizes: ResizeResult[] }>(
      ...([topo, 'map', 'resize', 'ctTcp', '20000'] as const),
    );
    assert.deepEqual(
      resizes.map(({ family, table, status, from, to }) => [family, table, status, from, to]),
      FAMILIES.map((family) => [family, 'ct_tcp', 'resized', SIZE, 20_000]),
    );
    const one = await sekisho(topo, 'map', 'resize', 'ipv6/nat', '9000');
    assert.match(one.stdout, /^TABLE .*\nipv6\/snat +8192 +9000 +0 .*\n$/);
    const same = await sekisho(topo, 'map', 'resize', 'ctTcp', '20000');
    assert.deepEqual(same.stdout.split('\n').slice(0, 2), [
      'ipv4/ct_tcp has 20000 entries already',
      'ipv6/ct_tcp has 20000 entries already',
    ]);
    const sizes = async () => {
      const listed = await sekishoJson<{ name: string; capacity: number }[]>(topo, 'map', 'list');
      return Object.fromEntries(listed.map(({ name, capacity }) => [name, capacity]));
    };
    const wanted = { 'ipv4/ct_tcp': 20_000, 'ipv6/snat': 9000, 'ipv4/snat': SIZE };
    const some = async () => {
      const all = await sizes();
      return Object.fromEntries(Object.keys(wanted).map((name) => [name, all[name]]));
    };
    assert.deepEqual(await some(), wanted);
    const { body } = await scene.node.fetch({ url: 'http://127.0.0.1:9964/metrics' });
    assert.match(body, /^sekisho_map_capacity\{map="ipv4\/ct_tcp"\} 20000$/m);
    assert.match(
      body,
      /^sekisho_map_resizes_total\{map="ipv6\/ct_tcp",reason="request",status="completed"\} 1$/m,
    );

    await agent.kill9();
    await startAgent(topo, { maps });
    assert.deepEqual(await some(), wanted);
    assert.deepEqual(inconsistentPins(node), []);
    for (const family of FAMILIES) {
      const pins = readdirSync(join(node.bpffs, family));
      assert.deepEqual(
        pins.filter((pin) => /_(new|previous)$/.test(pin)),
        [],
      );
    }
  });

  it('is what a reload goes on with, and nobody holds its old maps', async () => {
    await using scene = await managedScene({ settings: { maps } });
    const { topo, agent } = scene;
    const node = nth(topo.nodes);
    const id = () => {
      using map = openPinnedMap(join(node.bpffs, 'ipv4/snat'));
      return map?.id ?? 0;
    };
    const ids = [id()];
    const resize = async (entries: number) => {
      const { code, stderr } = await sekisho(topo, 'map', 'resize', 'ipv4/nat', `${entries}`);
      assert.equal(code, 0, stderr);
    };
    await resize(16_384);
    ids.push(id());
    configure(node, { maps, masquerade: { restore: false } });
    agent.signal('SIGHUP');
    const reloaded = await until('a reload', () =>
      agent.logs.find(({ msg }) => /^configuration (reloaded|refused)/.test(msg)),
    );
    assert.deepEqual(reloaded.keys, ['masquerade.restore'], JSON.stringify(reloaded));
    assert.equal(id(), ids[1]);
    await resize(4096);
    await until('the old maps to be freed', () =>
      ids.every((old) => {
        using map = mapById(old);
        return map === undefined;
      }),
    );
    assert.deepEqual(inconsistentPins(node), []);
  });

  it('is refused with a reason, and then nothing has changed', async () => {
    await using scene = await managedScene({ settings: { maps } });
    const { topo } = scene;
    using map = openPinnedMap(join(nth(topo.nodes).bpffs, 'ipv6/ct_tcp'));
    assert.ok(map);
    await fillConntrack(map, { family: 'ipv6', count: 3000, expires: FOREVER });
    const refusals: [string[], number, RegExp][] = [
      [
        ['ctTcp', '3000'],
        1,
        /ipv6\/ctTcp holds 3000 entries, which 3000 cannot keep \(at least 3\d+;/,
      ],
      [['ctAny', '16777216'], 1, /the tables would take \d+ MiB .* \(the bound is \d+ MiB/],
      [['ctAny', '1000'], 2, /entries: expected a whole number from 1024 to 16777216/],
      [['ctany', '2048'], 2, /no table is called "ctany" \(did you mean ctAny\?/],
      [['nat', '64k'], 2, /"64k" is no number of entries/],
      [['nat'], 2, /missing required argument/],
    ];
    for (const [words, status, message] of refusals) {
      const { code, stderr, stdout } = await sekisho(topo, 'map', 'resize', ...words);
      assert.deepEqual([code, stdout], [status, ''], words.join(' '));
      assert.match(stderr, message);
      assert.equal(stderr.trimEnd().split('\n').length, 1);
    }
    const { body } = await call(scene, 'GET', '/v1/status');
    const sizes = body.maps
      .filter(({ name }: { name: string }) => ['ct_tcp', 'ct_any', 'snat'].includes(name))
      .map(({ capacity }: { capacity: number }) => capacity);
    assert.deepEqual(sizes, Array(6).fill(SIZE));
  });

  it('grows by itself where passes find it full again and again', async () => {
    await using scene = await managedScene({ settings: { maps } });
    const { topo, agent } = scene;
    using map = openPinnedMap(join(nth(topo.nodes).bpffs, 'ipv4/ct_tcp'));
    assert.ok(map);
    await fillConntrack(map, { family: 'ipv4', count: 7800, expires: FOREVER });
    await call(scene, 'POST', '/v1/gc/run');
    const resized = await until('growth', () =>
      agent.logs.find(({ msg }) => msg === 'table resized'),
    );
    const { family, table, from, to, copied, reason } = resized;
    assert.deepEqual(
      { family, table, from, to, copied, reason },
      { family: 'ipv4', table: 'ct_tcp', from: SIZE, to: 2 * SIZE, copied: 7800, reason: 'growth' },
    );
  });
});
