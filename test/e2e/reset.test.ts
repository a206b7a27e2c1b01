import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Packet } from '../lib/packet.ts';
import { openWire } from '../lib/raw-socket.ts';
import { type ManagedScene, managedScene, nth } from '../lib/scene.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';
import { keyToWorld, openTables, trackFlow } from './flow.ts';

const PORT = 7000;
const ONLY_PORT = 40_000;

test('a reset that somebody else forged', async (t) => {
  await using scene = await managedScene();
  const { topo } = scene;
  await using wire = await openWire(topo.world, 'eth0', { sources: [] });
  for (const family of FAMILIES) {
    await t.test(`kills no connection and deletes no record (${family})`, async () => {
      const host = nth(topo.worldAddresses)[family];
      const tag = `forged-${family}`;
      await scene.world.listen({ host, port: PORT });
      const { localPort } = await nth(scene.pods).connect({ tag, host, port: PORT });
      using tables = openTables(scene, family);
      const flow = trackFlow(
        tables,
        tag,
        keyToWorld(scene, family, 6, { sport: localPort, dport: PORT }),
      );

      await wire.send(...Array.from({ length: 50 }, (_, i) => forge(scene, family, flow, i)));
      await nth(scene.pods).exchange({ tag });

      flow.assertComplete();
      await nth(scene.pods).close({ tag });
    });
  }
});

test('a port is free again when its connection', async (t) => {
  const settings = {
    masquerade: { ports: { min: ONLY_PORT, max: ONLY_PORT } },
    conntrack: { timeouts: { tcpClose: '1s' } },
  };
  await using scene = await managedScene({ pods: 2, settings });
  for (const family of FAMILIES) {
    const host = nth(scene.topo.worldAddresses)[family];
    await scene.world.listen({ host, port: PORT });
    for (const end of ['reset', 'close'] as const) {
      await t.test(`has ended with ${end} (${family})`, async () => {
        const [first, second] = [nth(scene.pods), nth(scene.pods, 1)];
        const target = { host, port: PORT };
        const tag = `${end}-${family}`;
        await first.connect({ tag, ...target });
        await assert.rejects(second.connect({ tag, ...target, timeout: 500 }), /timeout/);

        await first[end]({ tag });

        const connected = () =>
          second.connect({ tag, ...target, timeout: 500 }).then(
            () => true,
            () => false,
          );
        await until('the second connection', connected, { timeout: 8000 });
        assert.equal((await scene.world.endpoints({ tag })).remotePort, ONLY_PORT);
        await second.reset({ tag });
        await until('the port to be free', () => freePort(scene, family), { timeout: 8000 });
      });
    }
  }
});

function forge(
  { topo }: ManagedScene,
  family: Family,
  { translation }: { translation: { address: string; port: number } },
  index: number,
): Packet {
  const seq = (0x9e3779b1 * (index + 1)) >>> 0;
  return {
    eth: { src: topo.worldMac, dst: nth(topo.nodes).mac },
    ip: { src: nth(topo.worldAddresses)[family], dst: translation.address },
    tcp: { sport: PORT, dport: translation.port, flags: 'R', seq },
  };
}

/** Whether a third connection could have the port: proven by making and ending one. */
async function freePort(scene: ManagedScene, family: Family): Promise<boolean> {
  const host = nth(scene.topo.worldAddresses)[family];
  const client = nth(scene.pods);
  try {
    await client.connect({ tag: 'probe', host, port: PORT, timeout: 500 });
  } catch {
    return false;
  }
  await client.reset({ tag: 'probe' });
  return true;
}
