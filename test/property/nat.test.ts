import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { openRig, PEOPLE, type Rig } from '../datapath/rig.ts';
import { assertPacket } from '../lib/assert-packet.ts';
import { buildPacket, type Packet } from '../lib/packet.ts';
import type { FlowKey } from '../lib/tables.ts';

/** Small enough that flows fight for ports, and that the scan is needed. */
const RANGE: [number, number] = [40000, 40039];
const SPORTS = [40000, 40001, 40039, 1000, 1001, 1002];
const RUNS = Number(process.env.SEKISHO_PROPERTY_RUNS ?? 60);

interface Step {
  flow: number;
  pod: 'A' | 'B';
  does: 'syn' | 'data' | 'answer' | 'lose forward' | 'lose reverse' | 'lose conntrack';
}

const steps = fc.array(
  fc.record<Step>({
    flow: fc.nat(SPORTS.length - 1),
    pod: fc.constantFrom('A', 'B'),
    does: fc.constantFrom(
      ...(['syn', 'data', 'data', 'answer', 'answer'] as const),
      ...(['lose forward', 'lose reverse', 'lose conntrack'] as const),
    ),
  }),
  { minLength: 10, maxLength: 60 },
);

/** What the model knows of a flow: its port, and which records are there. */
interface Known {
  port: number;
  forward: boolean;
  reverse: boolean;
  conntrack: boolean;
}

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, B, N, W } = PEOPLE[family];
  const address = { A, B };

  describe(`NAT against a model, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family, { portRange: RANGE });
    });
    after(() => rig[Symbol.asyncDispose]());

    const key = ({ pod, flow }: Step): FlowKey => ({
      ...{ src: address[pod], dst: W, sport: SPORTS[flow] ?? 0, dport: 443, protocol: 6, kind: 0 },
    });
    const reverse = (port: number): FlowKey => ({
      ...{ src: W, dst: N, sport: 443, dport: port, protocol: 6, kind: 1 },
    });
    /** As if the partner had last been looked at a while ago. */
    const age = (...keys: FlowKey[]) => {
      for (const half of keys) {
        if (rig.nat(half)) rig.patchNat(half, { touched: (rig.now() - 5) & 0xffff });
      }
    };
    const sends = (step: Step, flags: string): Packet => ({
      ip: { src: address[step.pod], dst: W },
      tcp: { sport: SPORTS[step.flow] ?? 0, dport: 443, flags },
    });
    const send = (step: Step, packet: Packet) => {
      const device = step.pod === 'A' ? 'a' : 'b';
      const first = rig.run('from_endpoint', buildPacket(packet), { device });
      return rig.run('to_netdev', first.packet, {
        cb: first.cb,
        ingressIfindex: rig.ifindex[device],
      });
    };

    test('a flow keeps its port while one of its three records survives', async () => {
      const play = async (script: Step[]) => {
        await rig.clear();
        const model = new Map<string, Known>();
        for (const step of script) {
          const name = `${step.pod}${step.flow}`;
          const known = model.get(name);
          const survives = known && (known.forward || known.reverse || known.conntrack);
          if (known) age(key(step), reverse(known.port));
          switch (step.does) {
            case 'syn':
            case 'data': {
              // A SYN says that the flow is new: only records that know its port count then.
              const remembered =
                step.does === 'data' ? survives : known && (known.forward || known.conntrack);
              const out = send(step, sends(step, step.does === 'syn' ? 'S' : 'PA'));
              assert.equal(out.verdict, 'pass');
              const port = rig.nat(key(step))?.port ?? 0;
              if (known && remembered) assert.equal(port, known.port, `${name} moved`);
              assert.equal(rig.nat(reverse(port))?.port, SPORTS[step.flow]);
              model.set(name, { port, forward: true, reverse: true, conntrack: true });
              break;
            }
            case 'answer': {
              if (!known?.reverse) break;
              const tcp = { sport: 443, dport: known.port, flags: 'PA' };
              const back = rig.run('from_netdev', buildPacket({ ip: { src: W, dst: N }, tcp }));
              assert.equal(back.verdict, 'redirect');
              assert.equal(rig.nat(key(step))?.port, known.port);
              model.set(name, { ...known, forward: true, conntrack: true });
              break;
            }
            case 'lose forward':
              rig.remove('snat', key(step));
              if (known) known.forward = false;
              break;
            case 'lose reverse':
              if (!known) break;
              if (known.reverse) rig.remove('snat', reverse(known.port));
              known.reverse = false;
              break;
            case 'lose conntrack':
              rig.remove('ct_tcp', key(step));
              if (known) known.conntrack = false;
          }
          // Whoever holds nothing may have lost its port to another flow.
          for (const [other, { port, ...records }] of model) {
            if (other !== name && !records.reverse && port === model.get(name)?.port) {
              model.delete(other);
            }
          }
        }
        const ports = [...model.values()].filter((known) => known.reverse).map(({ port }) => port);
        assert.equal(new Set(ports).size, ports.length, 'two flows share a port');
      };
      await fc.assert(fc.asyncProperty(steps, play), { numRuns: RUNS });
    });

    test('what goes out and comes back is what it was', () => {
      const packets = fc.record({
        sport: fc.integer({ min: 1, max: 65535 }),
        dport: fc.integer({ min: 1, max: 65535 }),
        payload: fc.uint8Array({ maxLength: 200 }),
        transport: fc.constantFrom('tcp' as const, 'udp' as const),
        bare: fc.boolean(),
      });
      type Sample = typeof packets extends fc.Arbitrary<infer Value> ? Value : never;
      const roundTrip = ({ sport, dport, payload, transport, bare }: Sample) => {
        const checksum = bare && transport === 'udp' && family === 'ipv4' ? { checksum: 0 } : {};
        const l4 = (from: number, to: number) =>
          transport === 'tcp'
            ? { tcp: { sport: from, dport: to, flags: 'A' } }
            : { udp: { sport: from, dport: to, ...checksum } };
        const there = { ip: { src: A, dst: W }, ...l4(sport, dport), payload };
        const out = rig.out(buildPacket(there));
        if (out.verdict === 'drop') return; // the small range is full towards this peer
        const protocol = transport === 'tcp' ? 6 : 17;
        const port = rig.nat({ src: A, dst: W, sport, dport, protocol, kind: 0 })?.port ?? 0;
        assertPacket(out.packet, {
          ip: { src: N, dst: W, ttl: 63 },
          ...l4(port, dport),
          payload,
        });
        const back = { ip: { src: W, dst: N }, ...l4(dport, port), payload };
        assertPacket(rig.run('from_netdev', buildPacket(back)).packet, {
          ip: { src: W, dst: A, ttl: 63 },
          ...l4(dport, sport),
          payload,
        });
      };
      fc.assert(fc.property(packets, roundTrip), { numRuns: RUNS * 5 });
    });
  });
}
