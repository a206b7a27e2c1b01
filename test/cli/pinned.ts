import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encode } from '../../agent/abi/codec.ts';
import { type CtEntry, layouts, type NatEntry, type Tuple } from '../../agent/abi/generated.ts';
import { calibrateNode, writeNodeState } from '../../agent/engine/clock.ts';
import { prepareDatapath, type TableSizes } from '../../agent/engine/datapath.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { type Family, familyOf, parseAddress } from '../../agent/lib/ip.ts';
import { datapathNow, readNodeState } from '../../agent/tables/clock.ts';
import { mountBpffs } from '../kernel/sandbox.ts';

export const SEKISHO = fileURLToPath(new URL('../../bin/sekisho', import.meta.url));
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

export const [TCP, UDP, ICMP, OUT, IN, RELATED] = [6, 17, 1, 0, 1, 2];

export interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
  /** Of standard output. */
  lines: string[];
}

/** The maps of a datapath that was loaded once and has no daemon. */
export interface Pinned extends Disposable {
  bpffs: string;
  runDir: string;
  /** Path of a configuration that leads to the pins. */
  config: string;
  run(...args: string[]): Promise<Outcome>;
  /** Seconds of the datapath's clock. */
  now(): number;
  addConntrack(table: 'ct_tcp' | 'ct_any', tuple: Tuple, entry: Partial<CtEntry>): void;
  addNat(tuple: Tuple, entry: Partial<NatEntry>): void;
}

/** Loads the real programs, pins their maps in a bpffs of the test's own, and lets go. */
export async function pinDatapath(sizes: Partial<TableSizes> = {}): Promise<Pinned> {
  const mount = mountBpffs();
  const bpffs = join(mount.path, 'sekisho');
  mkdirSync(bpffs);
  const state = calibrateNode(bpffs);
  const { secret, hz } = state;
  const all = { ct_tcp: 8192, ct_any: 8192, snat: 8192, ...sizes };
  using prepared = prepareDatapath({ bpffs, sizes: all, logger: SILENT });
  (await prepared.load({ secret, hz }))[Symbol.dispose]();
  writeNodeState(bpffs, state);

  const directory = mkdtempSync(join(tmpdir(), 'sekisho-run-'));
  const runDir = join(directory, 'run');
  mkdirSync(runDir);
  const config = join(directory, 'config.yaml');
  writeFileSync(config, `state: { bpffs: ${bpffs}, runDir: ${runDir} }\n`);
  return {
    bpffs,
    runDir,
    config,
    run: (...args) => runSekisho([...args, '--config', config]),
    now: () => datapathNow(readNodeState(bpffs)),
    addConntrack: (table, tuple, entry) =>
      put(bpffs, table, tuple, (family) => {
        const empty = { nat_addr: new Uint8Array(tuple.saddr.length) };
        return encode(layouts[family].ct_entry, { ...empty, ...entry });
      }),
    addNat: (tuple, entry) =>
      put(bpffs, 'snat', tuple, (family) => encode(layouts[family].nat_entry, entry)),
    [Symbol.dispose]() {
      rmSync(directory, { recursive: true });
      mount[Symbol.dispose]();
    },
  };
}

/** `flow(TCP, OUT, '10.0.1.10', 40000, '203.0.113.45', 443)`. */
export function flow(
  proto: number,
  kind: number,
  from: string,
  sport: number,
  to: string,
  dport: number,
): Tuple {
  const [saddr, daddr] = [parseAddress(from).bytes, parseAddress(to).bytes];
  return { saddr, daddr, sport, dport, proto, kind };
}

export function runSekisho(args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(SEKISHO, args, { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const status = error ? Number(error.code) : 0;
      resolve({ status, stdout, stderr, lines: stdout.split('\n').filter(Boolean) });
    });
  });
}

function put(
  bpffs: string,
  table: string,
  tuple: Tuple,
  value: (family: Family) => Uint8Array,
): void {
  const family = familyOf(tuple.saddr);
  using map = openPinnedMap(join(bpffs, family, table));
  if (!map) throw new Error(`${table} is not pinned`);
  map.update(encode(layouts[family].tuple, tuple), value(family));
}
