/**
 * Tables of a million connections: what a collector's pass over them does to the event loop
 * beside it, what listings take against `bpftool map dump`, how long such a table takes to be
 * resized, and what a connection costs in memory. `SCALE_ENTRIES` for a rehearsal. As a program it prints the figures as JSON, and needs a
 * mount and network namespace of its own.
 */
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { formatTable } from '../../agent/cli/text-table.ts';
import { connectionTable } from '../../agent/daemon/tables.ts';
import { type CollectedTable, collectTable } from '../../agent/engine/pass.ts';
import { loadReaper } from '../../agent/engine/reap.ts';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { eachElement } from '../../agent/kernel/map-batch.ts';
import type { Family } from '../../agent/lib/ip.ts';
import { type Pinned, pinDatapath, SEKISHO } from '../cli/pinned.ts';
import { fillConntrack, fillNat } from '../lib/crowd.ts';
import { watchEventLoop } from '../lib/event-loop.ts';
import { type Measured, measureCommand } from '../lib/measured.ts';
import { type ExpiryFigures, measureExpiry, type Way } from './expiry.ts';
import { measureResize, type ResizeFigures } from './resize.ts';
import { measureScrape, type ScrapeFigures } from './scrape.ts';
import { ratioText, withRange } from './text.ts';

const ENTRIES = Number(process.env.SCALE_ENTRIES ?? 1_000_000);
/** So that LRU takes nothing while the tables are filled. */
const ROOM = 50_000;
const LISTINGS = ['ct list', 'ct list -o json', 'ct count', 'nat list', 'nat ports --top 10'];

export interface PassFigures {
  entries: number;
  /** Of the whole pass. */
  seconds: number;
  /** Longest call for a batch of 4,096, and for a reap of as many keys. */
  longestBatchMs: number;
  longestReapMs: number;
  /** Longest time that the event loop beside it stood still. */
  longestGapMs: number;
}

export interface ListingFigures extends Measured {
  command: string;
  family: Family;
}

export interface ScaleFigures {
  entries: number;
  /** Nothing has expired; everything has. */
  scan: PassFigures;
  collection: PassFigures;
  /** Every key read and looked up by system calls of its own. */
  scanByKeySeconds: number;
  /** Everything has expired: a pass, and what else one could do. */
  expiry: Record<Way, ExpiryFigures>;
  listings: ListingFigures[];
  /** `bpftool map dump` of the same `ct_tcp`, IPv4. */
  bpftool: Measured | undefined;
  /** `map list`: every entry of both families is counted. */
  mapList: Measured;
  /** Of a daemon with these tables. */
  scrape: ScrapeFigures;
  /** To twice the size; IPv6. */
  resize: ResizeFigures;
  /** Bytes of kernel memory for an entry, and for a masqueraded connection: one and two of them. */
  memory: { family: Family; conntrack: number; nat: number; connection: number }[];
}

/** Takes about two minutes with a million entries, the larger part of it bpftool's. */
export async function measureScale(
  entries = ENTRIES,
  progress: (text: string) => void = () => {},
): Promise<ScaleFigures> {
  const size = entries + ROOM;
  using pinned = await pinDatapath({ ct_tcp: size, snat: size });
  using map = open(pinned, 'ipv4', 'ct_tcp');
  await fill(pinned, 'ipv4', entries, 3600);
  progress(`passes over ${entries} entries`);
  const scan = await pass(pinned, map);
  const scanByKeySeconds = timeByKey(map);
  progress('listings');
  const listings = await list(pinned, 'ipv4');
  progress('bpftool map dump');
  const dump = ['map', 'dump', 'pinned', join(pinned.bpffs, 'ipv4/ct_tcp')];
  const bpftool = await measureCommand('bpftool', dump).catch(() => undefined);
  await fill(pinned, 'ipv4', entries, -3600);
  const collection = await pass(pinned, map);
  progress('expiry, one way and another');
  const expiry = await measureExpiry(pinned, map, entries);
  progress('listings of IPv6');
  await fill(pinned, 'ipv6', entries, 3600);
  listings.push(...(await list(pinned, 'ipv6')));
  const memory = (['ipv4', 'ipv6'] as const).map((family) => memoryOf(pinned, family));
  const mapList = await measureCommand(SEKISHO, ['map', 'list', '--config', pinned.config]);
  progress('scrapes');
  const scrape = await measureScrape(SEKISHO, pinned.config);
  progress('resize');
  forgetGarbage();
  const resize = await measureResize(pinned.bpffs, 'ipv6', 2 * size);
  return {
    ...{ entries, scan, collection, scanByKeySeconds, expiry, listings, bpftool },
    ...{ mapList, scrape, resize, memory },
  };
}

/** Tables to print, with their titles. */
export function scaleLines(figures: ScaleFigures): string[] {
  const { entries, scan, collection, scanByKeySeconds, listings, bpftool, memory } = figures;
  const { expiry, mapList, scrape, resize } = figures;
  const passes = Object.entries({ 'nothing expired': scan, 'all expired': collection });
  const commands = [
    ...listings.map(({ family, ...row }) => ({ ...row, command: `${row.command}, ${family}` })),
    { ...mapList, command: 'map list' },
    ...(bpftool ? [{ ...bpftool, command: 'bpftool map dump (ct_tcp), ipv4' }] : []),
  ];
  return [
    `A collector's pass over ${entries} entries; key by key: ${scanByKeySeconds.toFixed(2)} s`,
    ...formatTable(
      ['', 's', 'longest batch ms', 'longest reap ms', 'longest gap ms'],
      passes.map(([name, row]) => [
        name,
        ...[row.seconds, row.longestBatchMs, row.longestReapMs, row.longestGapMs].map(digits),
      ]),
    ),
    '',
    `${entries} expired entries deleted`,
    ...formatTable(
      ['', 's', 'to one by one', 'longest gap ms'],
      Object.entries(expiry).map(([way, { seconds, ratio, longestGapMs }]) => [
        way,
        withRange(seconds),
        ratioText(ratio),
        digits(longestGapMs),
      ]),
    ),
    '',
    `A scrape of a daemon that has these tables: ${withRange(scrape.milliseconds)} ms, ${scrape.bytes} bytes`,
    '',
    `A resize that copies ${resize.copied} entries: ${digits(resize.seconds)} s, longest gap ${digits(resize.longestGapMs)} ms`,
    '',
    'Commands',
    ...formatTable(
      ['', 's', 'peak MB'],
      commands.map((row) => [row.command, digits(row.seconds), digits(row.megabytes)]),
    ),
    '',
    'Kernel memory, bytes',
    ...formatTable(
      ['', 'CT entry', 'NAT entry', 'connection'],
      memory.map((row) => [row.family, row.conntrack, row.nat, row.connection]),
    ),
  ];
}

function digits(value: number): string {
  return value.toFixed(2);
}

async function fill(pinned: Pinned, family: Family, count: number, seconds: number) {
  const crowd = { family, count, expires: pinned.now() + seconds };
  using conntrack = open(pinned, family, 'ct_tcp');
  await fillConntrack(conntrack, crowd);
  using nat = open(pinned, family, 'snat');
  await fillNat(nat, crowd);
}

/** Collects a table with an event loop turning beside it. */
async function pass(pinned: Pinned, map: BpfMap): Promise<PassFigures> {
  using reaper = loadReaper(pinned.bpffs, 'ipv4');
  const [batches, reaps]: [number[], number[]] = [[], []];
  const table = timed(connectionTable('ipv4', 'ct_tcp', map), batches);
  forgetGarbage();
  const loop = watchEventLoop();
  const { alive, deleted, durationMs } = await collectTable(table, {
    now: pinned.now,
    turnover: () => ({ created: 0, deleted: 0 }),
    async reap(_, name, keys, count) {
      const begun = performance.now();
      const result = await reaper.reap(name, keys, count);
      reaps.push(performance.now() - begun);
      return result;
    },
  });
  return {
    entries: alive + deleted,
    seconds: durationMs / 1000,
    longestBatchMs: Math.max(...batches),
    longestReapMs: Math.max(0, ...reaps),
    longestGapMs: loop.stop().longestGapMs,
  };
}

/** What filling the tables left behind is not to be cleared away during the pass. */
function forgetGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

/** Writes down how long each batch took to come, in milliseconds. */
function timed(table: CollectedTable, times: number[]): CollectedTable {
  return {
    ...table,
    async *lookupBatch(size) {
      let begun = performance.now();
      for await (const batch of table.lookupBatch(size)) {
        times.push(performance.now() - begun);
        yield batch;
        begun = performance.now();
      }
    },
  };
}

function timeByKey(map: BpfMap): number {
  const begun = performance.now();
  let seen = 0;
  for (const _ of eachElement(map)) seen++;
  if (seen === 0) throw new Error('nothing was read');
  return (performance.now() - begun) / 1000;
}

async function list(pinned: Pinned, family: Family) {
  const rows: ListingFigures[] = [];
  for (const command of LISTINGS) {
    const args = [...command.split(' '), '--family', family, '--config', pinned.config];
    rows.push({ command, family, ...(await measureCommand(SEKISHO, args)) });
  }
  return rows;
}

function memoryOf(pinned: Pinned, family: Family) {
  const perEntry = (name: string) => {
    using map = open(pinned, family, name);
    return Math.round(map.memory() / map.maxEntries);
  };
  const [conntrack, nat] = [perEntry('ct_tcp'), perEntry('snat')];
  return { family, conntrack, nat, connection: conntrack + 2 * nat };
}

function open(pinned: Pinned, family: Family, name: string): BpfMap {
  const map = openPinnedMap(join(pinned.bpffs, family, name));
  if (!map) throw new Error(`${family}/${name} is not pinned`);
  return map;
}

if (import.meta.main) {
  process.stdout.write(JSON.stringify(await measureScale()));
}
