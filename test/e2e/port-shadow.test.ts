import assert from 'node:assert/strict';
import { test } from 'node:test';
import { managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';

/** A service of the node, inside the NAT range: what a VPN server would listen on. */
const SERVICE = 51_820;
/** What its client in the world always sends from. */
const CLIENT = 7000;

// CVE-2021-3773: who shares a NAT with a server sends from the server's port to one of its clients,
// and the client's packets to the server then match the attacker's mapping.
test('a pod cannot stand before a service of its node', async (t) => {
  await using scene = await managedScene();
  const { node, topo, world } = scene;
  const attacker = nth(scene.pods);
  for (const family of FAMILIES) {
    const service = nth(topo.nodes).addresses[family];
    const victim = topo.gateway[family];
    const any = family === 'ipv4' ? '0.0.0.0' : '::';
    const shadow = { host: victim, port: CLIENT, localPort: SERVICE };

    await t.test(`its datagrams reach the service (${family})`, async () => {
      const tag = `vpn-${family}`;
      await node.udpListen({ host: any, port: SERVICE });
      await attacker.udpOpen({ tag: `shadow-${family}`, ...shadow });
      await attacker.udpSay({ tag: `shadow-${family}` });
      await world.udpOpen({ tag, host: service, port: SERVICE, localPort: CLIENT });
      await world.udpExchange({ tag, attempts: 3 });
      assert.equal((await node.udpEndpoints({ tag })).remoteAddress, victim);
      await assert.rejects(attacker.udpHear({ tag: `shadow-${family}`, timeout: 200 }));
    });

    await t.test(`its connections reach the service (${family})`, async () => {
      const tag = `tls-${family}`;
      await node.listen({ host: any, port: SERVICE });
      await assert.rejects(attacker.connect({ tag: `steal-${family}`, ...shadow, timeout: 300 }));
      await world.connect({ tag, host: service, port: SERVICE, localPort: CLIENT });
      assert.equal((await node.endpoints({ tag })).remoteAddress, victim);
    });
  }
});
