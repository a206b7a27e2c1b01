import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { nat_class } from '../../agent/abi/generated.ts';
import { buildPacket } from '../lib/packet.ts';
import type { FlowKey } from '../lib/tables.ts';
import { openRig, PEOPLE, type Rig, TIMEOUTS } from './rig.ts';

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, N, W } = PEOPLE[family];
  const flow = (sport: number, protocol = 6): FlowKey => ({
    ...{ src: A, dst: W, sport, dport: 443, protocol, kind: 0 },
  });

  describe(`routing by the stack, which loses the handoff, ${family}`, () => {
    const timeouts = { ...TIMEOUTS, any: 30 };
    let rig: Rig;
    before(async () => {
      rig = await openRig(family, { fastRouting: false, timeouts });
    });
    after(() => rig[Symbol.asyncDispose]());

    const sends = (sport: number, flags: string) => {
      const tcp = { sport, dport: 443, flags };
      const first = rig.run('from_endpoint', buildPacket({ ip: { src: A, dst: W }, tcp }));
      assert.equal(first.verdict, 'pass');
      return rig.run('to_netdev', first.packet, { ingressIfindex: rig.ifindex.a });
    };
    const left = (key: FlowKey) => (rig.nat(key)?.expires ?? 0) - rig.now();

    test('a CT entry that was lost learns its port from the half that survived', () => {
      sends(1200, 'S');
      const port = rig.nat(flow(1200))?.port ?? 0;
      assert.equal(rig.ct(flow(1200))?.nat_port, port);
      rig.remove('ct_tcp', flow(1200));
      sends(1200, 'A');
      assert.equal(rig.ct(flow(1200))?.nat_port, port);
    });

    test('a new connection in a closing entry gives its halves the life of a new one', () => {
      sends(40000, 'S');
      const tcp = { sport: 443, dport: 40000, flags: 'SA' };
      rig.run('from_netdev', buildPacket({ ip: { src: W, dst: N }, tcp }));
      for (const flags of ['A', 'FA', 'S']) sends(40000, flags);
      assert.equal(rig.nat(flow(40000))?.class, nat_class.NAT_CLASS_SYN);
      assert.ok(left(flow(40000)) <= TIMEOUTS.tcpSyn);
    });

    test('a datagram that conntrack does not know gets the life of a datagram', () => {
      const packet = buildPacket({ ip: { src: A, dst: W }, udp: { sport: 40000, dport: 443 } });
      rig.run('to_netdev', packet, { ingressIfindex: rig.ifindex.a });
      assert.ok(left(flow(40000, 17)) <= timeouts.any);
    });
  });
}
