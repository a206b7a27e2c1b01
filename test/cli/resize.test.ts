import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { encode } from '../../agent/abi/codec.ts';
import { type CtEntry, layouts, type NatEntry, type Tuple } from '../../agent/abi/generated.ts';
import { unpin } from '../../agent/kernel/fs.ts';
import { type BpfMap, createMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { parseAddress } from '../../agent/lib/ip.ts';
import { walkConntrack } from '../../agent/tables/conntrack.ts';
import { skipReason } from '../kernel/sandbox.ts';
import { flow, IN, OUT, type Pinned, pinDatapath, TCP } from './pinned.ts';

const POD = '10.0.1.10';
const NODE = '192.168.1.5';
const WORLD = '203.0.113.45';
const PREVIOUS = new Uint8Array(Uint32Array.of(1).buffer);
const { tuple: tupleLayout, ct_entry, nat_entry } = layouts.ipv4;

const out = (port: number) => flow(TCP, OUT, POD, port, WORLD, 443);

describe('listings while a table is resized', { skip: skipReason }, () => {
  let pinned: Pinned;

  beforeEach(async () => {
    pinned = await pinDatapath({ ct_tcp: 16_384 });
  });
  afterEach(() => pinned?.[Symbol.dispose]());

  /** Puts a map of the test's own into the slot of what has not been copied yet. */
  function makePrevious(table: 'ct_tcp' | 'snat'): BpfMap {
    const shape = { type: 'lru_hash', name: table, keySize: tupleLayout.size } as const;
    const valueSize = (table === 'snat' ? nat_entry : ct_entry).size;
    const map = createMap({ ...shape, valueSize, maxEntries: 16_384 });
    using outer = openPinnedMap(join(pinned.bpffs, 'ipv4', `${table}_maps`));
    assert.ok(outer);
    outer.updateFd(PREVIOUS, map);
    return map;
  }

  function add(map: BpfMap, tuple: Tuple, entry: Partial<CtEntry>): void {
    map.update(encode(tupleLayout, tuple), encode(ct_entry, entry));
  }

  async function ports(...words: string[]): Promise<string[]> {
    const { lines, stderr } = await pinned.run('ct', 'list', ...words);
    assert.equal(stderr, '');
    return lines.map((line) => /:(\d+) -> .* expires=(\d+) /.exec(line)?.slice(1).join(' ') ?? '');
  }

  it('show what is in either map once, and of both the current one', async () => {
    const end = pinned.now() + 600;
    using previous = makePrevious('ct_tcp');
    pinned.addConntrack('ct_tcp', out(40000), { expires: end });
    pinned.addConntrack('ct_tcp', out(40001), { expires: end + 1 });
    add(previous, out(40001), { expires: end + 7 });
    add(previous, out(40002), { expires: end + 2 });
    assert.deepEqual((await ports()).sort(), [
      `40000 ${end}`,
      `40001 ${end + 1}`,
      `40002 ${end + 2}`,
    ]);
    assert.deepEqual(await ports('--sport', '40002'), [`40002 ${end + 2}`]);
    assert.match((await pinned.run('ct', 'count')).stdout, /^total 3$/m);
  });

  it('show an entry once that moves while the table is read', async () => {
    const expires = pinned.now() + 600;
    using previous = makePrevious('ct_tcp');
    const all = Array.from({ length: 10_000 }, (_, i) => 20_000 + i);
    for (const port of all) add(previous, out(port), { expires });
    const seen: number[] = [];
    await walkConntrack(pinned.bpffs, 'ipv4', 'ct_tcp', ({ sport }) => {
      seen.push(sport);
      /* What the datapath does with some entries meanwhile, read already or not. */
      const promoted = all[(seen.length * 7) % all.length] ?? 0;
      pinned.addConntrack('ct_tcp', out(promoted), { expires });
      return undefined;
    });
    assert.deepEqual(
      seen.sort((a, b) => a - b),
      all,
    );
  });

  it('count the ports that both maps hold', async () => {
    const expires = pinned.now() + 600;
    using previous = makePrevious('snat');
    const addr = parseAddress(POD).bytes;
    const reverse = (port: number) => flow(TCP, IN, WORLD, 443, NODE, port);
    const entry: Partial<NatEntry> = { addr, port: 40000, expires };
    pinned.addNat(reverse(40000), entry);
    pinned.addNat(reverse(40001), entry);
    for (const port of [40001, 40002]) {
      previous.update(encode(tupleLayout, reverse(port)), encode(nat_entry, entry));
    }
    const { stdout } = await pinned.run('nat', 'ports', '-o', 'json');
    assert.deepEqual(
      JSON.parse(stdout).map(({ used }: { used: number }) => used),
      [3],
    );
    assert.equal((await pinned.run('nat', 'list')).lines.length, 3);
  });

  it('flush deletes from both, so that nothing comes back', async () => {
    const expires = pinned.now() + 600;
    using previous = makePrevious('ct_tcp');
    pinned.addConntrack('ct_tcp', out(40000), { expires });
    for (const port of [40000, 40001]) add(previous, out(port), { expires });
    const { lines } = await pinned.run('ct', 'flush', '--family', 'ipv4');
    assert.equal(lines[0], `Flushed 2 entries from ${pinned.bpffs}/ipv4/ct_tcp`);
    assert.equal(await previous.count(), 0);
    assert.deepEqual(await ports(), []);
  });

  it('tell the size of the new map and the entries of both, each once', async () => {
    const expires = pinned.now() + 600;
    using previous = makePrevious('ct_tcp');
    previous.pin(join(pinned.bpffs, 'ipv4/ct_tcp_previous'));
    for (const port of [40000, 40001]) pinned.addConntrack('ct_tcp', out(port), { expires });
    for (const port of [40001, 40002]) add(previous, out(port), { expires });
    const list = async () => {
      const { stdout } = await pinned.run('map', 'list', '-o', 'json');
      const maps: { name: string; entries: number; capacity: number }[] = JSON.parse(stdout);
      return maps
        .filter(({ name }) => name.startsWith('ipv4/ct_tcp') && !name.endsWith('_maps'))
        .map(({ name, entries, capacity }) => [name, entries, capacity]);
    };
    assert.deepEqual(await list(), [
      ['ipv4/ct_tcp', 3, 16_384],
      ['ipv4/ct_tcp_previous', 2, 16_384],
    ]);
    using outer = openPinnedMap(join(pinned.bpffs, 'ipv4/ct_tcp_maps'));
    using current = openPinnedMap(join(pinned.bpffs, 'ipv4/ct_tcp'));
    assert.ok(outer && current);
    outer.updateFd(PREVIOUS, current);
    unpin(join(pinned.bpffs, 'ipv4/ct_tcp_previous'));
    current.pin(join(pinned.bpffs, 'ipv4/ct_tcp_previous'));
    assert.deepEqual(await list(), [['ipv4/ct_tcp', 2, 16_384]]);
  });

  it('read the current map even where the pin still names the old one', async () => {
    const end = pinned.now() + 600;
    using current = makePrevious('ct_tcp');
    using outer = openPinnedMap(join(pinned.bpffs, 'ipv4/ct_tcp_maps')) as BpfMap;
    using old = openPinnedMap(join(pinned.bpffs, 'ipv4/ct_tcp')) as BpfMap;
    outer.updateFd(PREVIOUS, old);
    outer.updateFd(new Uint8Array(4), current);
    pinned.addConntrack('ct_tcp', out(40000), { expires: end });
    add(current, out(40000), { expires: end + 1 });
    add(current, out(40001), { expires: end + 2 });
    assert.deepEqual((await ports()).sort(), [`40000 ${end + 1}`, `40001 ${end + 2}`]);
  });
});
