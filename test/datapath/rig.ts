/**
 * The real programs and maps of one family, run packet by packet with BPF_PROG_TEST_RUN on
 * devices in this process's own network namespace. What one hook leaves in the packet and in
 * skb->cb goes into the next.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ipaddr from 'ipaddr.js';
import { decode, encode, encodeInto } from '../../agent/abi/codec.ts';
import {
  type CtEntry,
  counter,
  device_flag,
  drop_reason,
  endpoint_flag,
  hook as hookNumbers,
  layouts,
  type NatEntry,
  prefix_flag,
  table,
  update_error,
} from '../../agent/abi/generated.ts';
import type { Hook } from '../../agent/engine/attach.ts';
import { prepareDatapath } from '../../agent/engine/datapath.ts';
import type { LoadSettings } from '../../agent/engine/load-settings.ts';
import { loadReaper, type ReapMode, type ReapResult } from '../../agent/engine/reap.ts';
import { resizeTable } from '../../agent/engine/resize.ts';
import { type BpfMap, createMap } from '../../agent/kernel/map.ts';
import { formatAddress } from '../../agent/lib/ip.ts';
import { encodeKey, type FlowKey, KIND } from '../lib/tables.ts';

export type Family = 'ipv4' | 'ipv6';
export type Verdict = 'pass' | 'redirect' | 'drop';
export type TableName = 'ct_tcp' | 'ct_any' | 'snat';

/** Who is who, in both families. `N` is the node's masquerade address. */
export const PEOPLE = {
  ipv4: {
    A: '10.0.1.10',
    B: '10.0.1.11',
    G: '10.0.1.1',
    N: '192.168.1.5',
    router: '192.168.1.1',
    W: '203.0.113.45',
    R: '10.0.2.7',
    X: '10.0.1.99',
    pods: '10.0.1.0/24',
    excluded: '10.0.0.0/8',
  },
  ipv6: {
    A: 'fd00:1::10',
    B: 'fd00:1::11',
    G: 'fd00:1::1',
    N: '2001:db8:1::5',
    router: '2001:db8:1::1',
    W: '2001:db8:ffff::45',
    R: 'fd00:2::7',
    X: 'fd00:1::99',
    pods: 'fd00:1::/64',
    excluded: 'fd00::/8',
  },
} as const;

export interface RunOptions {
  /** skb->cb as an earlier hook left it. */
  cb?: readonly number[] | undefined;
  /** 0: the node made the packet itself. */
  ingressIfindex?: number | undefined;
  device?: 'a' | 'b' | 'eth0';
  gsoSize?: number;
}

export interface RunResult {
  verdict: Verdict;
  packet: Uint8Array;
  cb: number[];
  mark: number;
  /** Names of the counters that moved, with by how much. */
  counted: Record<string, number>;
}

export interface Rig extends AsyncDisposable {
  family: Family;
  /** Where its maps are pinned. */
  bpffs: string;
  /** What its programs were loaded with. */
  settings: LoadSettings;
  ifindex: { a: number; b: number; eth0: number };
  programIds: Record<Hook, number>;
  run(hook: Hook, packet: Uint8Array, options?: RunOptions): RunResult;
  /** The counters that moved since `before`, named as they are for a run of `hook`. */
  counted(hook: Hook, before?: ReadonlyMap<number, bigint>): Record<string, number>;
  /** from_endpoint on pod a's link, then to_netdev with what it left. */
  out(packet: Uint8Array): RunResult;
  ct(key: FlowKey): CtEntry | undefined;
  nat(key: FlowKey): NatEntry | undefined;
  /** Overwrites some fields of an entry, or of an empty one. */
  patchCt(key: FlowKey, fields: Partial<CtEntry>): void;
  patchNat(key: FlowKey, fields: Partial<NatEntry>): void;
  /** With `at` 'once' the flow's halves count as looked at in this very second, if they were. */
  remove(name: TableName, key: FlowKey, at?: 'once'): boolean;
  count(name: TableName): Promise<number>;
  clear(): Promise<void>;
  reap(name: TableName, keys: FlowKey[], mode?: ReapMode): Promise<ReapResult>;
  /** What leaves eth0 leaves as from now on. */
  setEgressAddress(address: string): void;
  /** Gives a connection table a map of another size, and copies what it holds. */
  resize(name: TableName, entries: number): Promise<unknown>;
  /** Takes a connection table away from the programs, so that every insertion fails. */
  takeAway(name: TableName): void;
  /** Any map of this family, by its name. */
  map(name: string): BpfMap;
  /** The datapath's clock, s. */
  now(): number;
}

export interface RigSettings extends Partial<LoadSettings> {
  portRange?: [number, number];
  tableSize?: number;
  /** False: as without node.podCIDRs. */
  podRanges?: boolean;
  /** False: the device has no address of this family. */
  egressAddress?: boolean;
}

const RETVAL: Record<number, Verdict> = { 4294967295: 'pass', 7: 'redirect', 2: 'drop' };
const SKB = { size: 192, ingressIfindex: 36, ifindex: 40, mark: 8, cb: 48, gsoSize: 176 };
const GSO_SEGS = 164;
export const TIMEOUTS = {
  tcp: 8000,
  tcpSyn: 60,
  tcpClose: 10,
  any: 60,
  serviceTcp: 8000,
  serviceAny: 60,
  serviceClose: 60,
};
const SECRET = [0x1234_5678_9abc_def1n, 0x0fed_cba9_8765_4321n];
/** Of the test's own programs: the clock's scale does not matter, only that it is one. */
const HZ = 250;

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: 'pipe' });
}

function interfaceIndex(name: string): number {
  const links = JSON.parse(
    execFileSync('ip', ['-json', 'link', 'show', name], { encoding: 'utf8' }),
  );
  return links[0].ifindex;
}

/** Pod links a and b, and eth0 with a default route; once per network namespace. */
function makeDevices(): void {
  if (existsSync('/proc/sys/net/ipv4/conf/lxc-a')) return;
  ip('link', 'set', 'lo', 'up');
  for (const name of ['lxc-a', 'lxc-b', 'eth0']) {
    ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-peer`);
    ip('link', 'set', name, 'up');
    ip('link', 'set', `${name}-peer`, 'up');
  }
  for (const [path, value] of [
    ['ipv4/ip_forward', '1'],
    ['ipv6/conf/all/forwarding', '1'],
  ]) {
    writeFileSync(`/proc/sys/net/${path}`, String(value));
  }
  for (const { N, router } of Object.values(PEOPLE)) {
    const v6 = N.includes(':');
    ip('addr', 'add', `${N}/${v6 ? 64 : 24}`, 'dev', 'eth0', ...(v6 ? ['nodad'] : []));
    ip(...(v6 ? ['-6'] : []), 'route', 'add', 'default', 'via', router);
  }
}

/** An address as map keys and values hold it. */
function bytes(address: string): Uint8Array {
  return Uint8Array.from(ipaddr.parse(address).toByteArray());
}

export async function openRig(family: Family, settings: RigSettings = {}): Promise<Rig> {
  const {
    portRange = [32768, 65535],
    tableSize = 4096,
    podRanges = true,
    egressAddress = true,
    ...load
  } = settings;
  const people = PEOPLE[family];
  makeDevices();
  const ifindex = {
    a: interfaceIndex('lxc-a'),
    b: interfaceIndex('lxc-b'),
    eth0: interfaceIndex('eth0'),
  };
  const bpffs = mkdtempSync(join(tmpdir(), 'sekisho-rig-'));
  execFileSync('mount', ['-t', 'bpf', 'bpf', bpffs]);
  const stack = new AsyncDisposableStack();
  stack.defer(() => {
    execFileSync('umount', [bpffs]);
    rmdirSync(bpffs);
  });
  const quiet = () => {};
  const logger = { debug: quiet, info: quiet, warn: quiet, error: quiet };
  const sizes = { ct_tcp: tableSize, ct_any: tableSize, snat: tableSize };
  const prepared = stack.use(prepareDatapath({ bpffs, sizes, logger, families: [family] }));
  const loadSettings: LoadSettings = {
    secret: SECRET,
    hz: HZ,
    timeouts: TIMEOUTS,
    masquerade: true,
    restore: true,
    fastRouting: true,
    accounting: false,
    fibSkipNeigh: false,
    csumIpv6: false,
    ...load,
  };
  const datapath = stack.use(await prepared.load(loadSettings));
  const shape = layouts[family];
  const node = stack.use(
    createMap({
      name: 'node',
      type: 'array',
      keySize: 4,
      valueSize: shape.node_state.size,
      maxEntries: 1,
    }),
  );
  node.update(new Uint8Array(4), encode(shape.node_state, { secret: SECRET, hz: HZ }));
  node.pin(join(bpffs, 'node'));
  const reaper = stack.use(loadReaper(bpffs, family));

  const endpoints = datapath.map(family, 'endpoints');
  const endpoint = (address: string, index: number, id: number, flags: number) =>
    endpoints.update(
      bytes(address),
      encode(shape.endpoint, { ifindex: index, id, identity: 3000 + id, flags, mtu: 1500 }),
    );
  endpoint(people.A, ifindex.a, 1, endpoint_flag.ENDPOINT_PEER);
  endpoint(people.B, ifindex.b, 2, endpoint_flag.ENDPOINT_PEER);
  endpoint(people.N, 0, 0, endpoint_flag.ENDPOINT_HOST);
  endpoint(people.G, 0, 0, endpoint_flag.ENDPOINT_HOST);

  const devices = datapath.map(family, 'devices');
  const deviceKey = Uint8Array.from(new Uint8Array(new Uint32Array([ifindex.eth0]).buffer));
  const setEgressAddress = (address: string) =>
    devices.update(
      deviceKey,
      encode(shape.device, {
        addr: bytes(address),
        port_min: portRange[0],
        port_max: portRange[1],
        flags: egressAddress ? device_flag.DEVICE_HAS_ADDRESS : 0,
      }),
    );
  setEgressAddress(people.N);

  const prefixes = datapath.map(family, 'prefixes');
  const prefix = (text: string, flags: number) => {
    const [address, length] = ipaddr.parseCIDR(text);
    prefixes.update(
      encode(shape.prefix_key, {
        prefixlen: length,
        addr: Uint8Array.from(address.toByteArray()),
      }),
      encode(shape.prefix, { flags }),
    );
  };
  prefix(people.excluded, prefix_flag.PREFIX_NO_MASQUERADE);
  if (podRanges)
    prefix(people.pods, prefix_flag.PREFIX_NO_MASQUERADE | prefix_flag.PREFIX_LOCAL_PODS);

  const counters = datapath.map(family, 'counters');
  const readCounters = () => {
    const values = new Map<number, bigint>();
    for (let i = 0; i < counter.COUNTER_COUNT; i++) {
      values.set(i, counters.sumU64(new Uint8Array(new Uint32Array([i]).buffer)));
    }
    return values;
  };

  const map = (name: TableName) => datapath.map(family, name);
  const patch = <Value>(
    name: TableName,
    layout: Parameters<typeof encodeInto<Value>>[0],
    key: FlowKey,
    fields: Partial<Value>,
  ) => {
    const value = map(name).lookup(encodeKey(key)) ?? new Uint8Array(layout.size);
    encodeInto(layout, fields, value);
    map(name).update(encodeKey(key), value);
  };

  /** As if the halves of a NAT entry's flow had last been looked at in another second. */
  const secondLater = (half: FlowKey) => {
    const value = map('snat').lookup(encodeKey(half));
    const entry = value && decode(shape.nat_entry, value);
    if (!entry) return;
    const { src: dst, sport: dport } = half;
    const owner = { src: formatAddress(entry.addr), dst, sport: entry.port, dport };
    const flow = half.kind === KIND.OUT ? half : { ...half, ...owner, kind: KIND.OUT };
    const ct = rig.ct(flow);
    if (ct) rig.patchCt(flow, { nat_looked: (ct.nat_looked - 1) & 0xffff });
  };

  const context = (options: RunOptions, hook: Hook) => {
    const ctx = new Uint8Array(SKB.size);
    const view = new DataView(ctx.buffer);
    const device = options.device ?? (hook.endsWith('endpoint') ? 'a' : 'eth0');
    view.setUint32(SKB.ifindex, ifindex[device], true);
    view.setUint32(SKB.ingressIfindex, options.ingressIfindex ?? ifindex[device], true);
    for (const [i, word] of (options.cb ?? []).entries()) {
      view.setUint32(SKB.cb + 4 * i, word, true);
    }
    if (options.gsoSize) {
      view.setUint32(SKB.gsoSize, options.gsoSize, true);
      view.setUint32(GSO_SEGS, 2, true);
    }
    return ctx;
  };

  const rig: Rig = {
    family,
    bpffs,
    settings: loadSettings,
    ifindex,
    programIds: {
      from_endpoint: datapath.programs[family].from_endpoint.id,
      to_endpoint: datapath.programs[family].to_endpoint.id,
      from_netdev: datapath.programs[family].from_netdev.id,
      to_netdev: datapath.programs[family].to_netdev.id,
    },
    run(hook, packet, options = {}) {
      const before = readCounters();
      const program = datapath.programs[family][hook];
      const { retval, data, ctx } = program.testRun({ data: packet, ctx: context(options, hook) });
      const view = new DataView(ctx.buffer, ctx.byteOffset);
      const counted = rig.counted(hook, before);
      const verdict = RETVAL[retval];
      if (!verdict) throw new Error(`${hook} returned ${retval}`);
      return {
        verdict,
        packet: data.slice(),
        cb: [0, 1, 2, 3, 4].map((i) => view.getUint32(SKB.cb + 4 * i, true)),
        mark: view.getUint32(SKB.mark, true),
        counted,
      };
    },
    counted(hook, before = new Map()) {
      const counted: Record<string, number> = {};
      for (const [index, value] of readCounters()) {
        const moved = Number(value - (before.get(index) ?? 0n));
        if (moved > 0) counted[counterName(index, hook)] = moved;
      }
      return counted;
    },
    out(packet) {
      const first = rig.run('from_endpoint', packet);
      if (first.verdict === 'drop') return first;
      const cb = first.verdict === 'redirect' ? first.cb : undefined;
      return rig.run('to_netdev', first.packet, { cb, ingressIfindex: ifindex.a });
    },
    ct(key) {
      const value = map(key.protocol === 6 ? 'ct_tcp' : 'ct_any').lookup(encodeKey(key));
      return value && decode(shape.ct_entry, value);
    },
    nat(key) {
      const value = map('snat').lookup(encodeKey(key));
      return value && decode(shape.nat_entry, value);
    },
    patchCt: (key, fields) =>
      patch(key.protocol === 6 ? 'ct_tcp' : 'ct_any', shape.ct_entry, key, fields),
    patchNat(key, fields) {
      secondLater(key);
      patch('snat', shape.nat_entry, key, fields);
    },
    remove(name, key, at) {
      if (name === 'snat' && at === undefined) secondLater(key);
      return map(name).delete(encodeKey(key));
    },
    async count(name) {
      let total = 0;
      for await (const { count } of map(name).lookupBatch()) total += count;
      return total;
    },
    async clear() {
      for (const name of ['ct_tcp', 'ct_any', 'snat', 'nat_full'] as const) {
        const target = datapath.map(family, name);
        const keys: Uint8Array[] = [];
        for await (const batch of target.lookupBatch()) {
          for (let i = 0; i < batch.count; i++) {
            keys.push(batch.keys.slice(i * target.keySize, (i + 1) * target.keySize));
          }
        }
        for (const key of keys) target.delete(key);
      }
    },
    reap(name, keys, mode = 'expired') {
      const packed = new Uint8Array(keys.length * shape.tuple.size);
      for (const [i, key] of keys.entries()) packed.set(encodeKey(key), i * shape.tuple.size);
      return reaper.reap(name, packed, keys.length, { mode });
    },
    setEgressAddress,
    resize: (name, entries) => resizeTable({ bpffs, maps: datapath }, family, name, entries),
    takeAway: (name) => void datapath.map(family, `${name}_maps`).delete(new Uint8Array(4)),
    map: (name) => datapath.map(family, name),
    now: () => Math.floor(Number(reaper.readClock().jiffies) / HZ),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
  return rig;
}

/** A short name for what a counter says about a run of `hook`. */
function counterName(index: number, hook: Hook): string {
  const within = (base: number, size: number) => index >= base && index < base + size;
  const hookBase = hookNumbers[`HOOK_${hook.toUpperCase()}` as keyof typeof hookNumbers];
  if (within(counter.COUNTER_PACKETS, 16)) {
    const [of, verdict] = [index >> 2, index & 3];
    const name = ['pass', 'deliver', 'forward', 'drop'][verdict];
    return of === hookBase ? `verdict ${name}` : `hook ${of} verdict ${name}`;
  }
  if (within(counter.COUNTER_DROPS, hookNumbers.HOOK_COUNT * drop_reason.DROP_REASON_COUNT)) {
    const reason = (index - counter.COUNTER_DROPS) % drop_reason.DROP_REASON_COUNT;
    const name = Object.entries(drop_reason).find(([, number]) => number === reason)?.[0];
    return `drop ${name?.slice('DROP_'.length).toLowerCase()}`;
  }
  const tables = ['ct_tcp', 'ct_any', 'snat'];
  if (within(counter.COUNTER_CREATED, table.TABLE_COUNT)) {
    return `created ${tables[index - counter.COUNTER_CREATED]}`;
  }
  if (within(counter.COUNTER_DELETED, table.TABLE_COUNT)) {
    return `deleted ${tables[index - counter.COUNTER_DELETED]}`;
  }
  if (within(counter.COUNTER_RESTORED, 3)) {
    return `restored ${['forward', 'reverse', 'adopted'][index - counter.COUNTER_RESTORED]}`;
  }
  if (within(counter.COUNTER_UPDATE_ERRORS, table.TABLE_COUNT * update_error.UPDATE_ERROR_COUNT)) {
    return `update error ${index - counter.COUNTER_UPDATE_ERRORS}`;
  }
  if (index === counter.COUNTER_EVENTS_LOST) return 'events lost';
  return `attempts ${index - counter.COUNTER_NAT_ATTEMPTS}`;
}
