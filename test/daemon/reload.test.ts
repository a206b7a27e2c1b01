import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import type { StatusReport } from '../../agent/cli/status-report.ts';
import type { ReloadStatus, Status } from '../../agent/daemon/status.ts';
import { listAttachments } from '../../agent/engine/attach.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { formatPrefix } from '../../agent/lib/ip.ts';
import { listDevices } from '../../agent/tables/devices.ts';
import { readPrefixes } from '../../agent/tables/prefixes.ts';
import {
  BINARY,
  configure,
  nodeSettings,
  type Settings,
  sekisho,
  sekishoJson,
} from '../lib/daemon.ts';
import { scrape } from '../lib/metrics.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { topology } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { call } from './support.ts';

const UDP_FLOWS = ['ct', 'list', '--proto', 'udp'];
const MAPS = { ctTcp: 4096, ctAny: 2048, nat: 4096 };
const EXCLUDED = '198.51.100.0/24';
const PORTS = { min: 40_000, max: 50_000 };

test('a changed file comes into force without a restart', async (t) => {
  const settings: Settings = { maps: MAPS, masquerade: { ports: PORTS } };
  await using scene = await managedScene({ settings });
  const { bpffs } = nth(scene.topo.nodes);
  const before = programsOf(bpffs);

  await t.test('rows, intervals and names, with the same programs', async () => {
    Object.assign(settings, {
      node: { ...(nodeSettings(nth(scene.topo.nodes)).node as object), name: 'renamed' },
      masquerade: { exclude: [EXCLUDED], ports: { min: 39_999, max: 50_000 } },
      cluster: { nodes: [{ name: 'b', address: '192.168.1.6', podCIDRs: ['10.0.2.0/24'] }] },
      gc: { interval: '77s' },
      log: { level: 'debug' },
    });
    const { status, keys } = await reload(scene, settings);
    assert.equal(status, 'applied');
    assert.deepEqual(keys.toSorted(), [
      'cluster.nodes',
      'gc.interval',
      'log.level',
      'masquerade.exclude',
      'masquerade.ports.min',
      'node.name',
    ]);
    const prefixes = prefixesOf(bpffs);
    for (const prefix of [EXCLUDED, '10.0.2.0/24', '192.168.1.6/32']) {
      assert.ok(prefixes.includes(prefix), prefix);
    }
    assert.equal(listDevices(bpffs, 'ipv4')[0]?.port_min, 39_999);
    const metrics = await scrape(scene.topo);
    assert.equal(metrics.sum('sekisho_conntrack_gc_interval_seconds'), 77);
    assert.equal(metrics.sum('sekisho_agent_info', { node: 'renamed' }), 1);
    assert.equal(metrics.sum('sekisho_agent_info'), 1);
    assert.deepEqual(programsOf(bpffs), before);
  });

  await t.test('what is folded into the programs, with new ones on every hook', async () => {
    Object.assign(settings, { conntrack: { timeouts: { any: '500s' } } });
    assert.equal((await reload(scene, settings)).status, 'applied');
    const after = programsOf(bpffs);
    assert.equal(after.size, before.size);
    assert.ok([...after].every((id) => !before.has(id)));
    const target = { host: nth(scene.topo.worldAddresses).ipv4, port: 7001 };
    await nth(scene.pods).udpFlood({ ...target, count: 1 });
    await until('a flow with the new lifetime', async () => {
      const [flow] = await sekishoJson<{ remaining: number }[]>(scene.topo, ...UDP_FLOWS);
      return flow && flow.remaining > 400;
    });
  });

  await t.test('another place for the metrics', async () => {
    Object.assign(settings, { metrics: { listen: '127.0.0.1:9965' } });
    assert.equal((await reload(scene, settings)).status, 'applied');
    const pages = [9964, 9965].map((port) =>
      scene.node.fetch({ url: `http://127.0.0.1:${port}/readyz` }).then(
        ({ status }) => status,
        () => 'refused',
      ),
    );
    assert.deepEqual(await Promise.all(pages), ['refused', 200]);
  });

  await t.test('and the same file again changes nothing', async () => {
    const programs = programsOf(bpffs);
    assert.deepEqual((await reload(scene, settings)).keys, []);
    assert.deepEqual(programsOf(bpffs), programs);
  });
});

test('a file that cannot be applied is refused as a whole', async (t) => {
  await using scene = await managedScene({ settings: { maps: MAPS } });
  const node = nth(scene.topo.nodes);
  const before = { programs: programsOf(node.bpffs), prefixes: prefixesOf(node.bpffs) };
  const wish = { masquerade: { exclude: [EXCLUDED] }, conntrack: { accounting: true } };
  const refused: [name: string, settings: Settings, says: RegExp][] = [
    ['an unknown key', { masquerad: {} }, /config\.yaml:\d+:1: masquerad: unknown key/],
    [
      'what is pinned or held, every key named',
      { maps: { ...MAPS, nat: 2048 }, state: { bpffs: node.bpffs, runDir: '/run/other' } },
      /^maps\.nat, state\.runDir: cannot change while the agent runs \(needs a restart\)$/,
    ],
    [
      'a range that leaves out ports in use',
      { masquerade: { exclude: [EXCLUDED], ports: PORTS } },
      /^masquerade\.ports: the range 32768-65535 can only grow .*restart/,
    ],
    ['a device that is not there', { node: { devices: ['eth7'] } }, /"eth7"/],
    [
      'an address that is not the node’s',
      { masquerade: { addresses: ['192.0.2.1'], exclude: [EXCLUDED] } },
      /^masquerade\.addresses: 192\.0\.2\.1 is not an address of this node/,
    ],
    [
      'more prefixes than there is room for, found out half way',
      { masquerade: { exclude: prefixes(16_500) } },
      /no space left on device/,
    ],
    ['a taken address', { metrics: { listen: '0.0.0.0:9964' } }, /cannot listen on 0\.0\.0\.0/],
  ];
  for (const [name, settings, says] of refused) {
    await t.test(name, async () => {
      const { status, message } = await reload(scene, { maps: MAPS, ...wish, ...settings });
      assert.equal(status, 'refused');
      assert.match(message ?? '', says);
    });
  }

  await t.test('a file that is no YAML', async () => {
    writeFileSync(scene.agent.configFile, 'node: [');
    const { status, message } = await hangUp(scene);
    assert.equal(status, 'refused');
    assert.match(message ?? '', /config\.yaml:1:\d+: /);
  });

  await t.test('and nothing was touched', async () => {
    assert.deepEqual(programsOf(node.bpffs), before.programs);
    assert.deepEqual(prefixesOf(node.bpffs), before.prefixes);
    await until('a line for each refusal', () => {
      const said = scene.agent.logs.filter(({ msg }) => msg.startsWith('configuration refused'));
      return said.length === refused.length + 1;
    });
    const { body } = await call(scene, 'GET', '/v1/status');
    const { healthy, warnings } = body as Status;
    assert.equal(healthy, true);
    assert.match(warnings.join(), /^configuration not applied: .*config\.yaml:1:/);
    const metrics = await scrape(scene.topo);
    const count = metrics.sum('sekisho_config_reloads_total', { status: 'refused' });
    assert.equal(count, refused.length + 1);
  });

  await t.test('the corrected file is applied', async () => {
    assert.equal((await reload(scene, { maps: MAPS, ...wish })).status, 'applied');
    assert.ok(prefixesOf(node.bpffs).includes(EXCLUDED));
    const { body } = await call(scene, 'GET', '/v1/status');
    assert.deepEqual((body as Status).warnings, []);
  });
});

test('programs are not loaded over other maps than those that are filled in', async () => {
  const settings: Settings = { maps: MAPS };
  await using scene = await managedScene({ settings });
  const node = nth(scene.topo.nodes);
  const programs = programsOf(node.bpffs);
  const removed = ['endpoints', 'prefixes'].map((name) => join(node.bpffs, 'ipv4', name));
  for (const path of removed) unlinkSync(path);
  const { status, message } = await reload(scene, { ...settings, conntrack: { accounting: true } });
  assert.equal(status, 'refused');
  assert.match(
    message ?? '',
    /^someone removed or replaced the pin \S+ and 1 more \(needs a restart/,
  );
  assert.deepEqual(programsOf(node.bpffs), programs);
  assert.deepEqual(removed.filter(existsSync), []);
});

test('endpoints come and go with the file; those that were added stay', async () => {
  await using scene = await managedScene({ pods: 3, settings: { maps: MAPS } });
  const node = nth(scene.topo.nodes);
  const [first, second, third] = nodeSettings(node).endpoints as { name: string }[];
  await reload(scene, { maps: MAPS, endpoints: [first] });
  assert.deepEqual(await names(scene), [first?.name]);
  const added = await call(scene, 'POST', '/v1/endpoints', third as object);
  assert.equal(added.status, 201);
  await reload(scene, { maps: MAPS, endpoints: [second] });
  assert.deepEqual(await names(scene), [second?.name, third?.name]);
  const { host, port } = { host: nth(scene.topo.worldAddresses).ipv4, port: 7000 };
  await scene.world.listen({ host, port });
  await nth(scene.pods, 1).connect({ tag: 'second', host, port });
  await assert.rejects(nth(scene.pods).connect({ tag: 'first', host, port, timeout: 300 }));
});

test('reloads, and requests of the socket between them, take their turns', async () => {
  await using scene = await managedScene({ pods: 2, settings: { maps: MAPS, endpoints: [] } });
  const node = nth(scene.topo.nodes);
  const [one] = nodeSettings(node).endpoints as { name: string }[];
  const write = (round: number) =>
    configure(node, {
      maps: MAPS,
      endpoints: [],
      conntrack: { timeouts: { any: `${100 + round}s` } },
      masquerade: { exclude: [`198.51.${round}.0/24`] },
    });
  for (let round = 0; round < 6; round++) {
    write(round);
    scene.agent.signal('SIGHUP');
    assert.equal((await call(scene, 'POST', '/v1/endpoints', one as object)).status, 201);
    const { status } = await call(scene, 'DELETE', `/v1/endpoints/${one?.name}`);
    assert.equal(status, 200);
  }
  const excluded = () => prefixesOf(node.bpffs).filter((prefix) => prefix.startsWith('198.51.'));
  await until('the last file, and nothing else', () => `${excluded()}` === '198.51.5.0/24');
  assert.equal(programsOf(node.bpffs).size, 4);
  assert.deepEqual(refusals(scene), []);
  assert.equal((await call(scene, 'GET', '/v1/healthz')).status, 200);
});

test('signals that come during the start', async (t) => {
  await using topo = await topology();
  const node = nth(topo.nodes);
  const spawn = () => {
    const command = [BINARY, 'agent', '--config', configure(node, { maps: MAPS })];
    const child = node.ns.spawn(command, { stdio: ['ignore', 'pipe', 'inherit'] });
    const seen: string[] = [];
    const ended = once(child, 'exit');
    if (child.stdout) {
      createInterface(child.stdout).on('line', (line) => seen.push(JSON.parse(line).msg));
    }
    const heard = (message: string) => until(message, () => seen.includes(message));
    return { child, heard, seen, ended };
  };

  await t.test('SIGHUP reads the file again once the daemon is ready', async () => {
    const { child, heard, seen, ended } = spawn();
    await heard('starting');
    child.kill('SIGHUP');
    await heard('configuration reloaded');
    assert.ok(seen.indexOf('configuration reloaded') > seen.indexOf('ready'));
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
  });

  for (const moment of ['starting', 'datapath attached']) {
    await t.test(`SIGTERM after "${moment}" ends it with 0`, async () => {
      const { child, heard, seen, ended } = spawn();
      await heard(moment);
      child.kill('SIGTERM');
      assert.deepEqual(await ended, [0, null]);
      assert.equal(seen.at(-1), 'stopped');
    });
  }
});

test('SIGTERM during a reload ends the daemon with 0, and its hooks stay', async () => {
  await using scene = await managedScene({ settings: { maps: MAPS } });
  configure(nth(scene.topo.nodes), { maps: MAPS, conntrack: { accounting: true } });
  scene.agent.signal('SIGHUP');
  assert.equal(await scene.agent.stop(), 0);
  const { stdout } = await sekisho(scene.topo, 'status', '-o', 'json');
  const { hooks }: StatusReport = JSON.parse(stdout);
  assert.deepEqual(
    hooks.map(({ attached }) => attached),
    Array(8).fill(true),
  );
});

test('SIGTERM while a change of the network is followed ends the daemon without an error', async () => {
  await using scene = await managedScene({ settings: { maps: MAPS } });
  const { agent, topo } = scene;
  await topo.node.ip('link add x type veth peer name y');
  assert.equal(await agent.stop(), 0);
  assert.deepEqual(
    agent.logs.filter(({ msg }) => msg.endsWith('could not be followed')),
    [],
  );
});

/** Writes the file, sends SIGHUP, and waits for what the daemon says about it. */
async function reload(scene: ManagedScene, settings: Settings): Promise<ReloadStatus> {
  configure(nth(scene.topo.nodes), settings);
  return hangUp(scene);
}

async function hangUp(scene: ManagedScene): Promise<ReloadStatus> {
  const last = async () => (await call(scene, 'GET', '/v1/status')).body.reload as ReloadStatus;
  const before = await last();
  scene.agent.signal('SIGHUP');
  return until('the reload', async () => {
    const now = await last();
    return now?.at !== before?.at && now;
  });
}

async function names(scene: ManagedScene): Promise<string[]> {
  const { body } = await call(scene, 'GET', '/v1/endpoints');
  return body.endpoints.map(({ name }: { name: string }) => name);
}

function prefixes(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `100.${64 + (i >> 8)}.${i & 255}.0/24`);
}

function refusals({ agent }: ManagedScene): unknown[] {
  return agent.logs.filter(({ msg }) => msg.startsWith('configuration refused'));
}

function programsOf(bpffs: string): Set<number> {
  return new Set(listAttachments(bpffs).map(({ programId }) => programId));
}

function prefixesOf(bpffs: string): string[] {
  using map = openPinnedMap(join(bpffs, 'ipv4', 'prefixes'));
  assert.ok(map);
  return readPrefixes(map, 'ipv4').map(({ prefix }) => formatPrefix(prefix));
}
