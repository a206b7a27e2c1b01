import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { readPackets } from '../lib/counts.ts';
import { startAgent } from '../lib/daemon.ts';
import { dissect } from '../lib/dissect.ts';
import { kernelObjects, liveProgramIds } from '../lib/kernel-objects.ts';
import type { Namespace } from '../lib/netns.ts';
import { openWire } from '../lib/raw-socket.ts';
import { startRemote } from '../lib/remote.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import type { SwapHandlers } from '../lib/swap/program.ts';
import { FAMILIES } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

const PORT = 7000;
const SWAPS = 100;
const INSTANCES = 3;
const PAUSE_MS = 20;
const RATE = 40_000_000;
const SWAPPER = new URL('../lib/swap/program.ts', import.meta.url);

for (const { attach, skip } of ATTACH_MODES) {
  test(`programs that are swapped ${SWAPS} times under bulk traffic (${attach})`, {
    skip,
  }, async (t) => {
    await using scene = await managedScene({ settings: { datapath: { attach } } });
    const { topo, agent } = scene;
    const [node, client] = [nth(topo.nodes), nth(scene.pods)];
    await using wire = await openWire(topo.world, 'eth0', {
      sources: Object.values(node.podCIDRs),
    });
    await neighboursForever(scene);
    const swapper = topo.use(await startRemote<SwapHandlers>(node.ns, SWAPPER));
    const before = await kernelObjects(node);
    await agent.stop();
    const ids = await swapper.load({ configFile: agent.configFile, count: INSTANCES });

    const targets = FAMILIES.map((family) => ({
      host: nth(topo.worldAddresses)[family],
      port: PORT,
    }));
    for (const target of targets) await scene.world.echoServe(target);
    const [seen, met] = [await devicePackets(scene), programPackets(scene)];
    await client.startLoad({ targets, rate: RATE });
    await until('bulk', async () => (await client.loadSoFar()).connections > 50);
    await swapper.swap({ attach, times: SWAPS, pause: PAUSE_MS });
    const report = await client.stopLoad();
    const bytes = report.streams.reduce((sum, { sent, received }) => sum + sent + received, 0);
    const retransmitted = [
      await tcpCount(nth(topo.pods).ns, 'TcpRetransSegs'),
      await tcpCount(topo.world, 'TcpRetransSegs'),
    ];
    t.diagnostic(`${Math.round(bytes / 1e6)} MB, ${report.connections} connections`);
    t.diagnostic(`retransmitted by pod and world: ${retransmitted.join(', ')}`);

    await t.test('reset nothing and lose nothing', async () => {
      assert.deepEqual(
        report.streams.map(({ intact, error }) => ({ intact, error })),
        targets.map(() => ({ intact: true, error: null })),
      );
      assert.deepEqual(report.broken, {});
      assert.equal(report.unanswered, 0);
      for (const ns of [nth(topo.pods).ns, topo.node, topo.world]) {
        assert.equal(await tcpCount(ns, 'TcpOutRsts'), 0);
        assert.equal(await tcpCount(ns, 'TcpEstabResets'), 0);
      }
    });

    await t.test('are met by every packet that the devices saw', async () => {
      const passed = difference(await devicePackets(scene), seen);
      assert.deepEqual(difference(programPackets(scene), met), passed);
    });

    await t.test('let no packet with a private source out', async () => {
      const leaks = (await wire.take()).map(({ frame }) => dissect(frame).ip);
      assert.deepEqual(leaks, []);
    });

    await t.test('leave nothing behind', async () => {
      await swapper[Symbol.asyncDispose]();
      await startAgent(topo, { datapath: { attach } });
      await until('the swapped programs to go', async () => {
        const live = await liveProgramIds();
        return ids.every((id) => !live.has(id));
      });
      const { programs, links, pins } = await kernelObjects(node);
      assert.deepEqual(
        { programs, links, pins },
        {
          programs: before.programs,
          links: before.links,
          pins: before.pins,
        },
      );
    });
  });
}

/** Address resolution is no business of the programs, and would be missing from their counters. */
async function neighboursForever({ topo }: ManagedScene): Promise<void> {
  const node = nth(topo.nodes);
  await node.ns.ip(
    `neigh replace ${topo.gateway.ipv4} lladdr ${topo.worldMac} dev eth0 nud permanent`,
    ...topo.pods.map(
      (pod) =>
        `neigh replace ${pod.addresses.ipv4} lladdr ${pod.mac} dev ${pod.interface} nud permanent`,
    ),
  );
  await topo.world.ip(
    `neigh replace ${node.addresses.ipv4} lladdr ${node.mac} dev eth0 nud permanent`,
  );
}

interface Packets {
  leaving: number;
  arriving: number;
  fromPod: number;
}

/** As the kernel counts them at the devices. */
async function devicePackets({ topo }: ManagedScene): Promise<Packets> {
  const { stdout } = await topo.node.exec('ip', '-s', '-json', 'link', 'show');
  const links = JSON.parse(stdout) as {
    ifname: string;
    stats64: Record<'rx' | 'tx', { packets: number }>;
  }[];
  const count = (name: string, side: 'rx' | 'tx') =>
    links.find(({ ifname }) => ifname === name)?.stats64[side].packets ?? Number.NaN;
  return {
    leaving: count('eth0', 'tx'),
    arriving: count('eth0', 'rx'),
    fromPod: count(nth(topo.pods).interface, 'rx'),
  };
}

/** As the programs count them. */
function programPackets({ topo }: ManagedScene): Packets {
  const sum = (hook: Parameters<typeof readPackets>[2]) =>
    FAMILIES.reduce((total, family) => total + readPackets(nth(topo.nodes), family, hook), 0);
  return { leaving: sum('to_netdev'), arriving: sum('from_netdev'), fromPod: sum('from_endpoint') };
}

function difference(after: Packets, before: Packets): Packets {
  return {
    leaving: after.leaving - before.leaving,
    arriving: after.arriving - before.arriving,
    fromPod: after.fromPod - before.fromPod,
  };
}

/** A counter of the namespace's TCP since it was made. */
async function tcpCount(ns: Namespace, name: string): Promise<number> {
  const { stdout } = await ns.exec('cat', '/proc/net/snmp');
  const [names = [], values = []] = stdout
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'))
    .map((line) => line.split(' '));
  return Number(values[names.indexOf(name.slice('Tcp'.length))]);
}
