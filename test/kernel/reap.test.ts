import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { decode, encode } from '../../agent/abi/codec.ts';
import {
  type CtEntry,
  ct_flag,
  ct_seen,
  flow_class,
  layouts,
  type NatEntry,
  nat_class,
  nat_flag,
  type Tuple,
} from '../../agent/abi/generated.ts';
import { connectionTable } from '../../agent/daemon/tables.ts';
import { collectTable } from '../../agent/engine/pass.ts';
import { loadReaper, type Reaper, type ReapOptions } from '../../agent/engine/reap.ts';
import type { Lifetimes } from '../../agent/engine/relief.ts';
import { type SocketPort, socketPorts } from '../../agent/engine/socket-ports.ts';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { parseAddress } from '../../agent/lib/ip.ts';
import { readTurnover } from '../../agent/tables/counters.ts';
import { flowClass } from '../../agent/tables/flow-class.ts';
import { FLOW_CLASSES } from '../../agent/tables/names.ts';
import { flow, IN, OUT, type Pinned, pinDatapath, TCP, UDP } from '../cli/pinned.ts';
import { skipReason } from './sandbox.ts';

const PEOPLE = {
  ipv4: { pod: '10.0.1.10', other: '10.0.1.11', peer: '203.0.113.45', node: '192.0.2.1' },
  ipv6: { pod: 'fd00::10', other: 'fd00::11', peer: '2001:db8::45', node: '2001:db8:1::1' },
};
const ESTABLISHED: Partial<CtEntry> = {
  flags: ct_flag.CT_SEEN_NON_SYN,
  seen: ct_seen.CT_SEEN_BOTH,
};
const ESTABLISHED_FLAGS = ct_flag.CT_SEEN_NON_SYN;
const CLOSED: Partial<CtEntry> = {
  flags: ct_flag.CT_SEEN_NON_SYN | ct_flag.CT_RX_CLOSING | ct_flag.CT_TX_CLOSING,
  seen: ct_seen.CT_SEEN_BOTH,
};
type Table = 'ct_tcp' | 'ct_any' | 'snat';

for (const family of ['ipv4', 'ipv6'] as const) {
  describe(`the reaper, ${family}`, { skip: skipReason }, () => {
    const people = PEOPLE[family];
    const [pod, peer, node] = [people.pod, people.peer, people.node];
    const bytes = (address: string) => parseAddress(address).bytes;
    let pinned: Pinned;
    let reaper: Reaper;
    const maps = new Map<Table | 'counters', BpfMap>();

    before(async () => {
      pinned = await pinDatapath();
      reaper = loadReaper(pinned.bpffs, family);
      for (const name of ['ct_tcp', 'ct_any', 'snat', 'counters'] as const) {
        maps.set(name, openPinnedMap(join(pinned.bpffs, family, name)) as BpfMap);
      }
    });
    after(() => {
      for (const map of maps.values()) map.close();
      reaper?.[Symbol.dispose]();
      pinned?.[Symbol.dispose]();
    });

    const map = (name: Table | 'counters') => maps.get(name) as BpfMap;
    const key = (tuple: Tuple) => encode(layouts[family].tuple, tuple);
    const has = (name: Table, tuple: Tuple) => map(name).lookup(key(tuple)) !== undefined;
    const nat = (tuple: Tuple) => {
      const value = map('snat').lookup(key(tuple));
      return value && (decode(layouts[family].nat_entry, value) as NatEntry);
    };
    const reap = (name: Table, tuples: Tuple[], options?: ReapOptions) =>
      reaper.reap(name, Buffer.concat(tuples.map(key)), tuples.length, options);
    const turnover = (name: Table) => readTurnover(map('counters'), name);

    /** A flow with its two halves, as they are after a packet. */
    function pair(sport: number, { proto = TCP, port = sport + 30_000, from = pod } = {}) {
      return {
        ct: flow(proto, OUT, from, sport, peer, 443),
        forward: flow(proto, OUT, from, sport, peer, 443),
        reverse: flow(proto, IN, peer, 443, node, port),
        mapped: { nat_addr: bytes(node), nat_port: port },
        half: { addr: bytes(node), port },
        back: { addr: bytes(from), port: sport },
      };
    }
    type Pair = ReturnType<typeof pair>;

    function put(
      { ct, forward, reverse, mapped, half, back }: Pair,
      entry: Partial<CtEntry> | undefined,
      life: Partial<NatEntry> = {},
    ) {
      const later = { expires: pinned.now() + 600 };
      const table = ct.proto === TCP ? 'ct_tcp' : 'ct_any';
      if (entry) pinned.addConntrack(table, ct, { ...later, ...mapped, ...entry });
      pinned.addNat(forward, { ...later, ...half, ...life });
      pinned.addNat(reverse, { ...later, ...back, ...life });
    }
    function assertHolds(half: NatEntry | undefined, wanted: Partial<NatEntry>) {
      for (const [name, value] of Object.entries(wanted)) {
        assert.deepEqual(half?.[name as keyof NatEntry], value, name);
      }
    }
    const left = ({ ct, forward, reverse }: Pair) => [
      has(ct.proto === TCP ? 'ct_tcp' : 'ct_any', ct),
      has('snat', forward),
      has('snat', reverse),
    ];

    it('and the agent agree on what a connection is worth, whatever it has seen', async () => {
      const flags = [0, 0x1, 0x2, 0x3, 0x10, 0x11, 0x12, 0x13];
      const cases = [TCP, UDP].flatMap((proto) =>
        flags.flatMap((bits) => Array.from({ length: 8 }, (_, seen) => ({ proto, bits, seen }))),
      );
      const expires = pinned.now() + 600;
      for (const [known, name] of FLOW_CLASSES.entries()) {
        for (const [i, { proto, bits, seen }] of cases.entries()) {
          const table = proto === TCP ? 'ct_tcp' : 'ct_any';
          const tuple = flow(proto, OUT, pod, 1000 + i, peer, 443);
          pinned.addConntrack(table, tuple, { expires, flags: bits, seen });
          const options: ReapOptions = { mode: 'relief', classes: 1 << known, idleUntil: expires };
          await reap(table, [tuple], options);
          const goes = flowClass(bits, seen, proto === TCP) === known;
          assert.equal(has(table, tuple), !goes, `${name} ${proto} ${bits} ${seen}`);
        }
      }
    });

    it('takes a connection with both of its halves to make room', async () => {
      const [closed, open] = [pair(2000), pair(2001)];
      put(closed, CLOSED);
      put(open, ESTABLISHED);
      const classes = 1 << flow_class.FLOW_CLOSING;
      const result = await reap('ct_tcp', [closed.ct, open.ct], { mode: 'relief', classes });
      assert.deepEqual([result.deleted, result.natDeleted, result.skipped], [1, 2, 1]);
      assert.deepEqual(
        [left(closed), left(open)],
        [
          [false, false, false],
          [true, true, true],
        ],
      );
    });

    it('leaves the port that another flow has by now, whoever remembers it', async () => {
      const [before, after] = [pair(2002), pair(2003, { port: 32_002, from: people.other })];
      put(before, CLOSED);
      put(after, ESTABLISHED);
      await reap('ct_tcp', [before.ct], { mode: 'relief', classes: 1 });
      assert.deepEqual(left(before), [false, false, true]);
      assert.deepEqual(left(after), [true, true, true]);
    });

    it('lets an answered flow be that is not idle any more', async () => {
      const quiet = pair(2004, { proto: UDP });
      put(quiet, { seen: ct_seen.CT_SEEN_BOTH, expires: pinned.now() + 30 });
      const options = { mode: 'relief', classes: 1 << flow_class.FLOW_ANSWERED } as const;
      await reap('ct_any', [quiet.ct], { ...options, idleUntil: pinned.now() + 20 });
      assert.deepEqual(left(quiet), [true, true, true]);
      await reap('ct_any', [quiet.ct], { ...options, idleUntil: pinned.now() + 40 });
      assert.deepEqual(left(quiet), [false, false, false]);
    });

    it('takes pairs without a connection, and no others', async () => {
      const [orphan, owned, old] = [pair(2010), pair(2011), pair(2012)];
      const syn = { class: nat_class.NAT_CLASS_SYN };
      put(orphan, undefined, syn);
      put(owned, ESTABLISHED, syn);
      put(old, undefined, { class: nat_class.NAT_CLASS_ESTABLISHED });
      const orphans = 1 << nat_class.NAT_CLASS_SYN;
      const halves = [orphan, owned, old].flatMap(({ forward, reverse }) => [forward, reverse]);
      const result = await reap('snat', halves, { mode: 'relief', orphans });
      assert.deepEqual([result.deleted, result.natDeleted], [1, 1]);
      assert.deepEqual(left(orphan).slice(1), [false, false]);
      assert.deepEqual(left(owned).slice(1), [true, true]);
      assert.deepEqual(left(old).slice(1), [true, true]);
    });

    it('takes a connection along with its half, by what the connection is worth', async () => {
      const [asked, open] = [pair(2013), pair(2014)];
      put(asked, { seen: ct_seen.CT_SEEN_TX }, { class: nat_class.NAT_CLASS_SYN });
      put(open, ESTABLISHED, { class: nat_class.NAT_CLASS_SYN });
      const classes = 1 << flow_class.FLOW_HALF_OPEN;
      const halves = [asked.forward, open.forward, asked.reverse, open.reverse];
      const result = await reap('snat', halves, { mode: 'relief', classes, orphans: 15 });
      assert.deepEqual([result.deleted, result.natDeleted, result.skipped], [0, 2, 3]);
      assert.deepEqual(
        [left(asked), left(open)],
        [
          [false, false, false],
          [true, true, true],
        ],
      );
    });

    it('takes no port from a connection whose entry is all that has expired', async () => {
      const quiet = pair(2015);
      put(quiet, { ...ESTABLISHED, expires: 5 }, { class: nat_class.NAT_CLASS_ESTABLISHED });
      const result = await reap('ct_tcp', [quiet.ct], { mode: 'relief', classes: 63 });
      assert.deepEqual([result.deleted, result.natDeleted], [1, 0]);
      assert.deepEqual(left(quiet), [false, true, true]);
    });

    it('takes no connection that its halves know as established', async () => {
      const [remade, asked] = [pair(2016), pair(2017)];
      const half = { seen: ct_seen.CT_SEEN_TX, flags: ct_flag.CT_SEEN_NON_SYN };
      put(remade, half, { class: nat_class.NAT_CLASS_ESTABLISHED });
      put(asked, half, { class: nat_class.NAT_CLASS_SYN });
      const options = { mode: 'relief', classes: 1 << flow_class.FLOW_HALF_OPEN } as const;
      const result = await reap('ct_tcp', [remade.ct, asked.ct], options);
      assert.deepEqual([result.deleted, result.natDeleted, result.skipped], [1, 2, 1]);
      await reap('snat', [remade.forward, remade.reverse], options);
      assert.deepEqual(left(remade), [true, true, true]);
      assert.deepEqual(left(asked), [false, false, false]);
    });

    it('calls nothing refused that is gone already, or that others have claimed', async () => {
      const [gone, claimed] = [pair(2018), pair(2019)];
      put(claimed, { ...ESTABLISHED, expires: 0 }, { expires: 0 });
      const first = await reap('ct_tcp', [gone.ct, claimed.ct]);
      const then = await reap('snat', [gone.forward, claimed.forward, claimed.reverse]);
      assert.deepEqual([first.skipped, first.failed, then.skipped, then.failed], [2, 0, 3, 0]);
      assert.deepEqual(left(claimed), [true, true, true]);
    });

    it('lets what closes rest when its endpoint leaves, with its port', async () => {
      const [closing, open, expired] = [pair(2020), pair(2021), pair(2022)];
      put(closing, CLOSED, { class: nat_class.NAT_CLASS_ESTABLISHED });
      put(open, ESTABLISHED);
      put(expired, { ...CLOSED, expires: 1 }, { expires: 1 });
      const lone = pair(2023);
      put(lone, undefined, { class: nat_class.NAT_CLASS_CLOSING });
      const all = [closing, open, expired, lone];
      const mode = 'leaving';
      await reap(
        'ct_tcp',
        all.map(({ ct }) => ct),
        { mode },
      );
      await reap(
        'snat',
        all.flatMap(({ forward, reverse }) => [forward, reverse]),
        { mode },
      );
      assert.deepEqual(left(closing), [true, true, true]);
      assert.deepEqual(left(open), [false, false, false]);
      assert.deepEqual(left(expired), [false, false, false]);
      assert.deepEqual(left(lone), [false, true, true]);
    });

    describe('completes', () => {
      const life = () => ({
        expires: pinned.now() + 77,
        created: pinned.now() - 100,
        class: nat_class.NAT_CLASS_ESTABLISHED,
        rev_nat_index: 9,
      });

      for (const lost of ['forward', 'reverse'] as const) {
        it(`a lone half whose ${lost} one is missing, as it was, and counts it as created`, async () => {
          const lone = pair(3000);
          put(lone, undefined, life());
          const whole = nat(lone[lost]);
          map('snat').delete(key(lone[lost]));
          const created = turnover('snat').created;
          const kept = lost === 'forward' ? lone.reverse : lone.forward;
          const result = await reap('snat', [kept], { mode: 'complete' });
          assert.equal(result.completed, 1);
          assert.deepEqual(nat(lone[lost]), whole);
          assert.equal(turnover('snat').created, created + 1);
          assert.equal((await reap('snat', [kept], { mode: 'complete' })).skipped, 1);
        });
      }

      for (const flags of [0, ct_flag.CT_NODE_PORT]) {
        const whose = flags ? "a client's" : "a pod's";
        it(`a connection without its halves, ${whose}, and counts both as created`, async () => {
          const bereft = pair(3010 + flags);
          const entry = { expires: pinned.now() + 600, flags: ESTABLISHED_FLAGS | flags };
          put(bereft, { ...ESTABLISHED, ...entry, rev_nat_index: 9 });
          for (const half of [bereft.forward, bereft.reverse]) map('snat').delete(key(half));
          const created = turnover('snat').created;
          const result = await reap('ct_tcp', [bereft.ct], { mode: 'complete' });
          assert.equal(result.completed, 1);
          assert.equal(turnover('snat').created, created + 2);
          const life = {
            class: nat_class.NAT_CLASS_ESTABLISHED,
            expires: entry.expires,
            rev_nat_index: 9,
            flags: flags ? nat_flag.NAT_NODE_PORT : 0,
          };
          assertHolds(nat(bereft.forward), { ...life, ...bereft.half });
          assertHolds(nat(bereft.reverse), { ...life, ...bereft.back });
          assert.equal((await reap('ct_tcp', [bereft.ct], { mode: 'complete' })).skipped, 1);
        });
      }

      it("no connection at a port that is another flow's by now", async () => {
        const [bereft, owner] = [pair(3020), pair(3021, { port: 33_020, from: people.other })];
        put(bereft, ESTABLISHED);
        for (const half of [bereft.forward, bereft.reverse]) map('snat').delete(key(half));
        put(owner, ESTABLISHED);
        const whole = nat(owner.reverse);
        assert.equal((await reap('ct_tcp', [bereft.ct], { mode: 'complete' })).skipped, 1);
        assert.equal(has('snat', bereft.forward), false);
        assert.deepEqual(nat(owner.reverse), whole);
      });

      it('nothing of a connection that has one half: it is the half that is completed', async () => {
        const lone = pair(3022);
        put(lone, ESTABLISHED);
        for (const lost of [lone.forward, lone.reverse]) {
          put(lone, ESTABLISHED);
          map('snat').delete(key(lost));
          await reap('ct_tcp', [lone.ct], { mode: 'complete' });
          assert.equal(has('snat', lost), false);
        }
      });

      it('nothing that has expired itself', async () => {
        const lone = pair(3001);
        put(lone, undefined, { ...life(), expires: pinned.now() });
        map('snat').delete(key(lone.reverse));
        await reap('snat', [lone.forward], { mode: 'complete' });
        assert.equal(has('snat', lone.reverse), false);
      });

      it('nothing at the cost of another flow, and clears what is left over', async () => {
        const [before, after] = [pair(3002), pair(3003, { port: 33_002, from: people.other })];
        put(before, undefined, life());
        put(after, undefined, life());
        const owner = nat(after.reverse);
        const result = await reap('snat', [before.forward], { mode: 'complete' });
        assert.deepEqual([result.completed, result.deleted], [0, 1]);
        assert.deepEqual(nat(after.reverse), owner);
        assert.deepEqual(left(after).slice(1), [true, true]);
      });

      it('and leaves a flow alone that is just changing its port', async () => {
        const [before, after] = [pair(3004), pair(3004, { port: 33_999 })];
        put(before, undefined, life());
        put(after, undefined, { ...life(), created: pinned.now() });
        const result = await reap('snat', [before.reverse], { mode: 'complete' });
        assert.equal(result.deleted, 0);
        assert.equal(has('snat', before.reverse), true);
      });
    });

    describe('in a pass', () => {
      const collect = (
        name: Table,
        restores = true,
        sockets: SocketPort[] = [],
        recreates?: Lifetimes,
      ) =>
        collectTable(connectionTable(family, name, map(name)), {
          ...(recreates && { recreates }),
          reap: (_, table, ...keys) => reaper.reap(table, ...keys),
          now: pinned.now,
          turnover: (_, table) => turnover(table),
          restores: () => restores,
          socketPorts: async () => socketPorts(sockets),
        });

      it('brings back each lone half among thousands of pairs, and counts exactly', async () => {
        await collect('snat');
        for (const { keys, count } of await all('snat')) await map('snat').deleteBatch(keys, count);
        const first = await collect('snat');
        const pairs = Array.from({ length: 1500 }, (_, i) => pair(4000 + i));
        for (const one of pairs) put(one, undefined, { created: pinned.now() - 100 });
        const lone = pairs.filter((_, i) => i % 10 === 0);
        for (const [i, { forward, reverse }] of lone.entries()) {
          map('snat').delete(key(i % 2 ? forward : reverse));
        }
        assert.equal((await collect('snat', false)).completed, 0, 'not without restore');
        const result = await collect('snat');
        assert.deepEqual([result.completed, result.alive, result.deleted], [150, 3000, 0]);
        assert.equal(result.evicted, first.evicted, 'what it brought back counts as created');
        for (const one of pairs) assert.deepEqual(left(one).slice(1), [true, true]);
        assert.equal((await collect('snat')).completed, 0);
      });

      it('brings back the pairs of connections that must stay, when it is to', async () => {
        const [tcp, udp, idle] = [
          pair(2110),
          pair(2111, { proto: UDP }),
          pair(2112, { proto: UDP }),
        ];
        const [closed, socket, tunnel] = [pair(2113), pair(2114), pair(2115)];
        const answered = { seen: ct_seen.CT_SEEN_BOTH };
        const lifetimes = { tcpSyn: 60, any: 600 };
        put(tcp, ESTABLISHED);
        put(udp, answered);
        put(idle, { ...answered, expires: pinned.now() + 399 });
        put(closed, CLOSED);
        put(socket, ESTABLISHED);
        put(tunnel, { ...ESTABLISHED, flags: ESTABLISHED_FLAGS | ct_flag.CT_FROM_TUNNEL });
        const lost = [tcp, udp, idle, closed, socket, tunnel];
        for (const { forward, reverse } of lost) {
          for (const half of [forward, reverse]) map('snat').delete(key(half));
        }
        const sockets = [{ proto: TCP, port: 32_114 }];
        for (const name of ['ct_tcp', 'ct_any'] as const) {
          assert.equal((await collect(name)).completed, 0, 'not every time');
          assert.equal(
            (await collect(name, false, [], lifetimes)).completed,
            0,
            'not without restore',
          );
          const { completed, alive } = await collect(name, true, sockets, lifetimes);
          assert.equal(completed > 0, true);
          assert.equal((await collect(name)).alive, alive, 'it is no entry of this table');
        }
        const whole = lost.map((one) => left(one)[1] && left(one)[2]);
        assert.deepEqual(whole, [true, true, false, false, false, false]);
      });

      it('deletes what stays claimed, and nothing that is not any more', async () => {
        const [stuck, done] = [pair(2102), pair(2103)];
        put(stuck, { ...ESTABLISHED, expires: 0 }, { expires: 0 });
        put(done, ESTABLISHED);
        await collect('ct_tcp');
        await collect('snat');
        assert.deepEqual(left(stuck), [false, false, false]);
        await reap('ct_tcp', [done.ct], { mode: 'claimed' });
        await reap('snat', [done.forward, done.reverse], { mode: 'claimed' });
        assert.deepEqual(left(done), [true, true, true]);
      });

      it('leaves the ports of sockets to the packets of their flows', async () => {
        await collect('snat');
        const [taken, free] = [pair(2104), pair(2105)];
        for (const one of [taken, free]) {
          put(one, undefined, { created: pinned.now() - 100 });
          map('snat').delete(key(one.reverse));
        }
        const result = await collect('snat', true, [{ proto: TCP, port: 32_104 }]);
        assert.equal(result.completed, 1);
        assert.deepEqual(left(taken).slice(1), [true, false]);
        assert.deepEqual(left(free).slice(1), [true, true]);
        map('snat').delete(key(free.forward));
        assert.equal((await collect('snat')).completed, 2, 'the next pass, without the socket');
      });

      it('deletes a connection and what of its pair has expired, at once', async () => {
        const [gone, half] = [pair(2100), pair(2101)];
        put(gone, { ...ESTABLISHED, expires: 5 }, { expires: 5 });
        put(half, { ...ESTABLISHED, expires: 5 });
        const result = await collect('ct_tcp');
        assert.equal(result.natDeleted, 2);
        assert.deepEqual(left(gone), [false, false, false]);
        assert.deepEqual(left(half), [false, true, true], 'which may be all that is left');
      });
    });

    async function all(name: Table) {
      const batches = [];
      for await (const { keys, count } of map(name).lookupBatch()) {
        batches.push({ keys: keys.slice(), count });
      }
      return batches;
    }
  });
}
