import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { probeCapabilities } from '../../agent/kernel/capabilities.ts';
import { buildPacket } from '../lib/packet.ts';
import { openRig, PEOPLE } from './rig.ts';

const { csumIpv6 } = probeCapabilities();

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, B, W } = PEOPLE[family];
  const tcp = { sport: 40000, dport: 443, flags: 'S' };

  describe(`when the kernel refuses, ${family}`, () => {
    test('ct_insert: a flow that cannot be recorded does not pass', async () => {
      await using rig = await openRig(family);
      rig.takeAway('ct_tcp');
      const packet = buildPacket({ ip: { src: A, dst: B }, tcp });
      const { verdict, counted } = rig.run('from_endpoint', packet);
      assert.equal(verdict, 'drop');
      assert.deepEqual(counted, { 'drop ct_insert': 1, 'verdict drop': 1 });
    });

    test('ct_insert: nor does one whose port is known already', async () => {
      await using rig = await openRig(family);
      rig.takeAway('ct_tcp');
      const { counted } = rig.out(buildPacket({ ip: { src: A, dst: W }, tcp }));
      assert.equal(counted['drop ct_insert'], 1);
    });

    test('nat_insert: a mapping that cannot be recorded lets nothing out', async () => {
      await using rig = await openRig(family);
      rig.takeAway('snat');
      const { verdict, counted } = rig.out(buildPacket({ ip: { src: A, dst: W }, tcp }));
      assert.equal(verdict, 'drop');
      assert.equal(counted['drop nat_insert'], 1);
      assert.equal(await rig.count('ct_tcp'), 0);
    });

    const accepted = family === 'ipv4' || csumIpv6;
    const skip = accepted ? 'this kernel refuses none of our rewrites' : false;
    test('rewrite: a packet that cannot be changed does not pass', { skip }, async () => {
      await using rig = await openRig(family, { csumIpv6: true });
      const { counted } = rig.out(buildPacket({ ip: { src: A, dst: W }, tcp }));
      assert.equal(counted['drop rewrite'], 1);
    });
  });
}
