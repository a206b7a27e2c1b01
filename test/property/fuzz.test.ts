import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import type { Hook } from '../../agent/engine/attach.ts';
import { openRig, PEOPLE, type Rig, type RunResult } from '../datapath/rig.ts';
import { diffPackets } from '../lib/assert-packet.ts';
import { dissect } from '../lib/dissect.ts';
import { buildPacket, type IcmpMessage, type Packet } from '../lib/packet.ts';

const RUNS = Number(process.env.SEKISHO_PROPERTY_RUNS ?? 60) * 10;
const HOOKS: readonly Hook[] = ['from_endpoint', 'to_endpoint', 'from_netdev', 'to_netdev'];
const ETHERTYPE = { ipv4: '0x0800', ipv6: '0x86dd' } as const;
const MULTICAST = { ipv4: '224.0.0.0/4', ipv6: 'ff00::/8' } as const;
/** The kernel refuses to run a program on less: Ethernet and a fixed IP header. */
const SHORTEST = { ipv4: 34, ipv6: 54 } as const;

type Family = keyof typeof PEOPLE;

/** A packet, and what was done to its bytes. */
interface Sample {
  frame: Uint8Array;
  hook: Hook;
  device: 'a' | 'b';
  /** The node made it itself. */
  local: boolean;
}

for (const family of ['ipv4', 'ipv6'] as const) {
  describe(`whatever arrives, ${family}`, () => {
    let rig: Rig;
    before(async () => {
      rig = await openRig(family);
    });
    after(() => rig[Symbol.asyncDispose]());

    const play = ({ frame, hook, device, local }: Sample): RunResult => {
      const ingressIfindex = local ? 0 : rig.ifindex[hook === 'to_netdev' ? device : 'eth0'];
      if (hook === 'from_endpoint') return rig.run(hook, frame, { device });
      if (hook === 'to_endpoint') return rig.run(hook, frame, { device, ingressIfindex });
      return rig.run(hook, frame, { ingressIfindex });
    };

    test('a drop has one reason and changes nothing, anything else has none', () => {
      const holds = (sample: Sample) => {
        const { verdict, packet, counted } = play(sample);
        const reasons = Object.keys(counted).filter((name) => name.startsWith('drop '));
        const verdicts = Object.keys(counted).filter((name) => name.startsWith('verdict '));
        assert.equal(reasons.length, verdict === 'drop' ? 1 : 0, reasons.join());
        assert.ok(verdicts.length <= 1, verdicts.join());
        if (verdict === 'drop') {
          assert.deepEqual(verdicts, ['verdict drop']);
          assert.deepEqual(packet, sample.frame);
        }
      };
      fc.assert(fc.property(samples(family), holds), { numRuns: RUNS });
    });

    test('nothing malformed passes', () => {
      const holds = (sample: Sample) => {
        const { eth, ip, problems } = dissect(sample.frame);
        // Fragments, an only one too, are not read: the stack puts them together.
        fc.pre(!String(ip?.extensions).split(',').includes('44'));
        fc.pre(eth?.type === ETHERTYPE[family] && problems.length > 0);
        assert.equal(play(sample).verdict, 'drop', problems.join());
      };
      fc.assert(fc.property(samples(family), holds), { numRuns: RUNS / 4, maxSkipsPerRun: 1000 });
    });

    test('what was sound stays sound, its checksums too', async () => {
      const holds = async (script: Sample[]) => {
        await rig.clear();
        for (const sample of script) {
          const { verdict, packet } = play(sample);
          if (verdict === 'drop' || !isSound(sample.frame)) continue;
          const changes = diffPackets(packet, sample.frame).map(({ field }) => field);
          const { checksums, problems } = dissect(packet);
          assert.deepEqual([checksums, problems], ['ok', []], `changed: ${changes.join()}`);
        }
      };
      await fc.assert(fc.asyncProperty(scripts(family), holds), { numRuns: RUNS / 4 });
    });

    test('no private source leaves', async () => {
      const { pods } = PEOPLE[family];
      const isPrivate = (source: unknown) => isIn(source, pods);
      const holds = (script: Sample[]) => assertNothingLeaves(rig, script, isPrivate);
      await fc.assert(fc.asyncProperty(scripts(family), holds), { numRuns: RUNS / 4 });
    });

    test("nor does an endpoint's, without node.podCIDRs", async () => {
      await using open = await openRig(family, { podRanges: false });
      const { A, B } = PEOPLE[family];
      const isPrivate = (source: unknown) => source === A || source === B;
      const holds = (script: Sample[]) => assertNothingLeaves(open, script, isPrivate);
      await fc.assert(fc.asyncProperty(scripts(family), holds), { numRuns: RUNS / 4 });
    });
  });
}

/** Sends packets out through both hooks, with others in between that the world sends. */
async function assertNothingLeaves(
  rig: Rig,
  script: readonly Sample[],
  isPrivate: (source: unknown) => boolean,
): Promise<void> {
  await rig.clear();
  for (const { frame, hook, device, local } of script) {
    if (hook === 'from_netdev') {
      // A flow that the world opened to a pod's own address may be answered from it.
      if (dissect(frame).ip?.dst !== PEOPLE[rig.family].N) continue;
      rig.run(hook, frame, { ingressIfindex: local ? 0 : rig.ifindex.eth0 });
      continue;
    }
    const first = rig.run('from_endpoint', frame, { device });
    if (first.verdict === 'drop') continue;
    const cb = first.verdict === 'redirect' ? first.cb : undefined;
    const ingressIfindex = local ? 0 : rig.ifindex[device];
    const out = rig.run('to_netdev', first.packet, { cb, ingressIfindex });
    if (out.verdict !== 'drop') assertNoLeak(rig.family, out.packet, isPrivate);
  }
}

function assertNoLeak(
  family: Family,
  frame: Uint8Array,
  isPrivate: (source: unknown) => boolean,
): void {
  const { eth, ip } = dissect(frame);
  if (!ip || eth?.type !== ETHERTYPE[family]) return;
  const { excluded } = PEOPLE[family];
  if (isIn(ip.dst, excluded) || isIn(ip.dst, MULTICAST[family]) || isLinkLocal(ip.dst)) return;
  assert.ok(!isPrivate(ip.src), `${ip.src} leaves for ${ip.dst}`);
}

function isSound(frame: Uint8Array): boolean {
  const { checksums, problems } = dissect(frame);
  return checksums === 'ok' && problems.length === 0;
}

function isIn(address: unknown, prefix: string): boolean {
  const parsed = ipaddr.parse(String(address));
  const [network, length] = ipaddr.parseCIDR(prefix);
  return parsed.kind() === network.kind() && parsed.match(network, length);
}

function isLinkLocal(address: unknown): boolean {
  return ipaddr.parse(String(address)).range() === 'linkLocal';
}

function scripts(family: Family): fc.Arbitrary<Sample[]> {
  return fc.array(samples(family), { minLength: 1, maxLength: 12 });
}

/** Packets that a hook may well see, and others; some with bytes changed, cut or added. */
function samples(family: Family): fc.Arbitrary<Sample> {
  const hooks = fc.record({
    hook: fc.constantFrom(...HOOKS),
    device: fc.constantFrom('a' as const, 'b' as const),
  });
  return hooks.chain(({ hook, device }) =>
    fc
      .record({
        packet: packets(family, hook, device),
        local: fc.boolean(),
        damage: rarely(
          2,
          fc.record({
            bytes: fc.array(fc.tuple(fc.nat(79), fc.nat(255)), { maxLength: 3 }),
            length: fc.option(fc.integer({ min: SHORTEST[family], max: 120 })),
          }),
        ),
      })
      .map(({ packet, damage, local }) => {
        const frame = buildPacket(packet);
        if (!damage) return { frame, hook, device, local };
        const damaged = new Uint8Array(damage.length ?? frame.length);
        damaged.set(frame.subarray(0, damaged.length));
        for (const [at, value] of damage.bytes) if (at < damaged.length) damaged[at] = value;
        return { frame: damaged, hook, device, local };
      }),
  );
}

/** Once in `others` + 1 times. */
function rarely<T>(others: number, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: others, arbitrary: fc.constant(undefined) }, arbitrary);
}

/** Mostly between those whose packets pass the hook. */
function addresses(family: Family, hook: Hook, device: 'a' | 'b') {
  const { A, B, N, W, R, X, G } = PEOPLE[family];
  const own = device === 'a' ? A : B;
  const everybody = fc.constantFrom<string[]>(A, B, N, W, R, X, G);
  const usual = {
    from_endpoint: [own, W],
    to_endpoint: [N, own],
    from_netdev: [W, N],
    to_netdev: [own, W],
  }[hook];
  const often = (address: string | undefined) =>
    fc.oneof({ weight: 5, arbitrary: fc.constant(address ?? W) }, everybody);
  return { src: often(usual[0]), dst: often(usual[1]) };
}

function packets(family: Family, hook: Hook, device: 'a' | 'b'): fc.Arbitrary<Packet> {
  const port = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(443, 40_000, 40_001) },
    fc.nat(65_535),
  );
  const ip = fc.record({
    ...addresses(family, hook, device),
    ttl: fc.constantFrom(64, 64, 2, 1),
    df: fc.boolean(),
  });
  const flags = fc.constantFrom('S', 'SA', 'A', 'PA', 'FA', 'R', 'RA', 'SF', '');
  const tcp = fc.record({ sport: port, dport: port, flags });
  const udp = fc.record({ sport: port, dport: port });
  const message = fc.constantFrom<IcmpMessage[]>('echo-request', 'echo-reply', 'time-exceeded');
  const icmp = fc.record({ message, id: port, sequence: fc.nat(9) });
  const quote = fc.record({ ip, udp }).map((quoted) => ({ quote: quoted }));
  const error = fc.record({
    message: fc.constantFrom<IcmpMessage[]>('port-unreachable', 'too-big'),
  });
  const transport: fc.Arbitrary<Omit<Packet, 'ip'>> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ tcp }) },
    { weight: 3, arbitrary: fc.record({ udp }) },
    { weight: 2, arbitrary: fc.record({ icmp }) },
    {
      weight: 1,
      arbitrary: fc.tuple(error, quote).map(([head, body]) => ({ icmp: { ...head, ...body } })),
    },
    { weight: 1, arbitrary: fc.record({ sctp: udp }) },
    { weight: 1, arbitrary: fc.record({ raw: fc.record({ protocol: fc.nat(255) }) }) },
  );
  const fragment = rarely(
    9,
    fc.record({ offset: fc.constantFrom(0, 8, 1480), more: fc.boolean() }),
  );
  const extensions = fc.array(
    fc.record({ type: fc.constantFrom(0, 43, 60), body: fc.uint8Array({ maxLength: 20 }) }),
    { maxLength: family === 'ipv6' ? 2 : 0 },
  );
  return fc
    .record({ ip, transport, fragment, extensions, payload: fc.uint8Array({ maxLength: 60 }) })
    .map(({ ip, transport, fragment, extensions, payload }) => ({
      ip: { ...ip, extensions, ...(fragment ? { fragment } : {}) },
      ...transport,
      payload,
    }));
}
