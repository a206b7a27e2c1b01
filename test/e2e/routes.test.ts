import assert from 'node:assert/strict';
import { test } from 'node:test';
import { managedScene, nth } from '../lib/scene.ts';
import { FAMILIES } from '../lib/topology.ts';

const PORT = 7000;
const REFUSED = 7001;

for (const routing of ['fast', 'stack']) {
  test(`rules that ask for ports are followed (${routing} routing)`, async (t) => {
    await using scene = await managedScene({ settings: { datapath: { routing } } });
    const { node } = scene.topo;
    for (const family of FAMILIES) {
      const host = nth(scene.topo.worldAddresses)[family];
      const version = family === 'ipv4' ? '-4' : '-6';
      await scene.world.listen({ host, port: PORT });
      await scene.world.listen({ host, port: REFUSED });
      await node.exec(
        'ip',
        version,
        'rule',
        'add',
        ...`ipproto tcp dport ${REFUSED}`.split(' '),
        'prohibit',
      );

      await t.test(
        `one connection passes, the other is refused by the rule (${family})`,
        async () => {
          const pod = nth(scene.pods);
          await pod.connect({ tag: family, host, port: PORT });
          await assert.rejects(
            pod.connect({ tag: `no-${family}`, host, port: REFUSED, timeout: 500 }),
          );
        },
      );
    }
  });
}
