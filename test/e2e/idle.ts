import assert from 'node:assert/strict';
import { nth, type Scene } from '../lib/scene.ts';
import { FAMILIES, type Family } from '../lib/topology.ts';

const COUNT = 40;
export const IDLE_PORT = 7000;

/** Opens connections of both families from ports that are translated to others. */
export async function openIdle({ topo, world, pods }: Scene): Promise<void> {
  for (const family of FAMILIES) {
    const host = nth(topo.worldAddresses)[family];
    await world.listen({ host, port: IDLE_PORT });
    const group = { prefix: family, count: COUNT, host, port: IDLE_PORT, localPort: 10_000 };
    assert.deepEqual(await nth(pods).connectMany(group), { alive: COUNT, dead: {} });
  }
}

/** Fails unless each of them still answers. */
export async function assertIdle({ pods }: Scene, text = 'still there'): Promise<void> {
  for (const prefix of FAMILIES) {
    const census = await nth(pods).exchangeMany({ prefix, count: COUNT, text, timeout: 10_000 });
    assert.deepEqual(census, { alive: COUNT, dead: {} }, text);
  }
}

/** The ports that the world sees them come from. */
export async function idlePorts({ world }: Scene): Promise<Record<Family, number[]>> {
  const portsOf = (family: Family) =>
    Promise.all(
      Array.from({ length: COUNT }, async (_, i) => {
        const { remotePort } = await world.endpoints({ tag: `${family}${i}` });
        return remotePort;
      }),
    );
  return { ipv4: await portsOf('ipv4'), ipv6: await portsOf('ipv6') };
}

/** How many there are, of both families together. */
export const IDLE_CONNECTIONS = COUNT * FAMILIES.length;
