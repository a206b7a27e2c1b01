import assert from 'node:assert/strict';
import { readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { exit, moveImmediate } from '../../agent/kernel/assembler.ts';
import { type BpfLink, openPinnedLink } from '../../agent/kernel/link.ts';
import { loadProgram } from '../../agent/kernel/load.ts';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { sekisho, startAgent } from '../lib/daemon.ts';
import { scrape } from '../lib/metrics.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import type { Node } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { call } from './support.ts';

const SMALL = { maps: { ctTcp: 4096, ctAny: 2048, nat: 4096 } };
const PORT = 7000;
const noTcx = ATTACH_MODES.find(({ attach }) => attach === 'tcx')?.skip ?? false;
const ALARM = 'sekisho_hook_reattached_total';

interface Interference {
  name: string;
  attach: 'tcx' | 'tc';
  /** Programs that it takes away, by hook. */
  takes: Partial<Record<'to_netdev' | 'from_netdev', number>>;
  interfere(node: Node): Promise<unknown>;
}

const INTERFERENCES: Interference[] = [
  {
    name: 'after a link is detached',
    attach: 'tcx',
    takes: { to_netdev: 1 },
    async interfere(node) {
      onLink(node, 'to_netdev_ipv4', (link) => link.detach());
    },
  },
  {
    name: 'after a link is given another program',
    attach: 'tcx',
    takes: { from_netdev: 1 },
    async interfere(node) {
      using other = loadProgram('sched_cls', 'other', [moveImmediate(0, 0), exit()]);
      onLink(node, 'from_netdev_ipv4', (link) => link.update(other));
    },
  },
  {
    name: 'after their pins are removed',
    attach: 'tcx',
    takes: { to_netdev: 2, from_netdev: 2 },
    async interfere(node) {
      unpinDevice(node);
    },
  },
  {
    name: 'after filters are deleted',
    attach: 'tc',
    takes: { to_netdev: 2 },
    interfere: (node) => node.ns.exec('tc', 'filter', 'del', 'dev', 'eth0', 'egress'),
  },
  {
    name: 'after the qdisc is deleted',
    attach: 'tc',
    takes: { to_netdev: 2, from_netdev: 2 },
    interfere: (node) => node.ns.exec('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact'),
  },
  {
    name: 'after their pins are removed',
    attach: 'tc',
    takes: { to_netdev: 2, from_netdev: 2 },
    async interfere(node) {
      unpinDevice(node);
    },
  },
];

for (const { attach, skip } of ATTACH_MODES) {
  test(`programs that someone takes away on ${attach} come back`, { skip }, async (t) => {
    await using scene = await managedScene({ settings: { ...SMALL, datapath: { attach } } });
    const node = nth(scene.topo.nodes);
    const host = nth(scene.topo.worldAddresses).ipv4;
    await scene.world.listen({ host, port: PORT });
    const programs = await attachedPrograms(scene);
    for (const { name, takes, interfere } of INTERFERENCES.filter((i) => i.attach === attach)) {
      await t.test(name, async () => {
        const before = await scrape(scene.topo);
        const told = scene.agent.logs.filter(isAlarm).length;
        await interfere(node);
        const taken = Object.entries(takes);
        await until('the alarm', async () => {
          const now = await scrape(scene.topo);
          return taken.every(
            ([hook, count]) => now.sum(ALARM, { hook }) - before.sum(ALARM, { hook }) === count,
          );
        });
        assert.deepEqual(await attachedPrograms(scene), programs);
        const sum = taken.reduce((total, [, count]) => total + count, 0);
        await until('the log', () => scene.agent.logs.filter(isAlarm).length === told + sum);
        const health = await call(scene, 'GET', '/v1/healthz');
        assert.deepEqual(health.body, { healthy: true, problems: [] });
        await checkTranslated(scene, name);
      });
    }
  });
}

test('what protects is attached again before what lets in', { skip: noTcx }, async () => {
  await using scene = await managedScene({ settings: SMALL });
  const node = nth(scene.topo.nodes);
  const directory = join(node.bpffs, 'links');
  const names = readdirSync(directory).sort();
  for (const name of names) unlinkSync(join(directory, name));
  await until('all of them', () => readdirSync(directory).length === names.length);
  const order = names.map((name) => ({ name, id: onPin(join(directory, name), ({ id }) => id) }));
  const hooks = order.sort((a, b) => a.id - b.id).map(({ name }) => name.replace(/^\d+_/, ''));
  assert.deepEqual(
    hooks.map((name) => name.replace(/_ipv\d$/, '')),
    ['to_netdev', 'from_netdev', 'to_endpoint', 'from_endpoint'].flatMap((hook) => [hook, hook]),
  );
});

test('a hook that cannot be attached again is a problem until it can', async () => {
  const settings = { ...SMALL, datapath: { attach: 'tc' } };
  await using scene = await managedScene({ settings });
  const { ns } = nth(scene.topo.nodes);
  // Stopped meanwhile, or it may look in between and be faster.
  scene.agent.signal('SIGSTOP');
  await ns.exec('sh', '-c', 'tc qdisc del dev eth0 clsact; tc qdisc add dev eth0 ingress');
  scene.agent.signal('SIGCONT');
  const problems = async () => (await call(scene, 'GET', '/v1/healthz')).body.problems as string[];
  await until('the reason', async () => (await problems()).some((text) => /ingress/.test(text)));
  assert.ok((await problems()).includes('to_netdev of ipv4 is not attached to eth0'));
  const status = await sekisho(scene.topo, 'status');
  assert.equal(status.code, 1);
  assert.match(status.stdout, /eth0 +to_netdev +ipv4 +- +MISSING/);
  await ns.exec('tc', 'qdisc', 'del', 'dev', 'eth0', 'ingress');
  await until('health', async () => (await problems()).length === 0, { timeout: 15_000 });
});

test('a hook that was lost while the daemon was away is attached by the next start', async () => {
  await using scene = await managedScene({ settings: SMALL });
  const node = nth(scene.topo.nodes);
  await scene.agent.stop();
  if (noTcx) await node.ns.exec('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
  else unpinDevice(node);
  const { code, stdout } = await sekisho(scene.topo, 'status');
  assert.equal(code, 1);
  assert.match(stdout, /eth0 +to_netdev +ipv4 +- +MISSING/);
  await startAgent(scene.topo, SMALL);
  assert.equal((await sekisho(scene.topo, 'status')).code, 0);
});

const isAlarm = ({ msg }: { msg: string }) => msg.startsWith('someone detached a hook');

/** Fails unless all eight are attached. */
async function attachedPrograms(scene: ManagedScene): Promise<number[]> {
  const { body } = await call(scene, 'GET', '/v1/status');
  const hooks = body.hooks as { attached: boolean; programId: number }[];
  assert.equal(hooks.filter(({ attached }) => attached).length, 8);
  return hooks.map(({ programId }) => programId);
}

async function checkTranslated(scene: ManagedScene, tag: string): Promise<void> {
  const host = nth(scene.topo.worldAddresses).ipv4;
  await nth(scene.pods).connect({ tag, host, port: PORT });
  const { remoteAddress } = await scene.world.endpoints({ tag });
  assert.equal(remoteAddress, nth(scene.topo.nodes).addresses.ipv4);
}

function devicePins({ bpffs }: Node): string[] {
  const directory = join(bpffs, 'links');
  const names = readdirSync(directory).filter((name) => name.includes('netdev'));
  return names.map((name) => join(directory, name));
}

function unpinDevice(node: Node): void {
  for (const path of devicePins(node)) unlinkSync(path);
}

function onLink(node: Node, suffix: string, action: (link: BpfLink) => void): void {
  onPin(nth(devicePins(node).filter((path) => path.endsWith(suffix))), action);
}

function onPin<T>(path: string, action: (link: BpfLink) => T): T {
  using link = openPinnedLink(path);
  if (!link) throw new Error(`nothing is pinned at ${path}`);
  return action(link);
}
