import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ControlFigures } from '../bench/control.ts';
import {
  figureText,
  goalText,
  judgeControl,
  judgePackets,
  judgeRatios,
  judgeScale,
  judgeServices,
  type Verdict,
} from '../bench/goals.ts';
import type { PacketRow } from '../bench/packet/table.ts';
import type { ScaleFigures } from '../bench/scale.ts';

const summary = (median: number) => ({ median, q1: 0.5, q3: 2000, min: 0.1, max: 9000 });

function row(median: number, reference?: number): PacketRow {
  const place = { family: 'ipv4', proto: 'tcp', path: 'to_netdev', state: 'many' } as const;
  const known = reference === undefined ? {} : { reference: { ns: reference } };
  return { ...place, ns: summary(median), processes: [], ...known };
}

function scale(change: Partial<ScaleFigures> = {}): ScaleFigures {
  const pass = { entries: 1_000_000, seconds: 0.4 };
  return {
    entries: 1_000_000,
    scan: { ...pass, longestBatchMs: 2, longestReapMs: 0, longestGapMs: 3 },
    collection: { ...pass, longestBatchMs: 2, longestReapMs: 6, longestGapMs: 12.1 },
    scanByKeySeconds: 3,
    expiry: {
      pass: { seconds: summary(0.9), ratio: summary(0.59), longestGapMs: 9 },
      'one by one': { seconds: summary(1.5), ratio: summary(1), longestGapMs: 9 },
      batch: { seconds: summary(1), ratio: summary(0.7), longestGapMs: 9 },
    },
    listings: [
      { command: 'ct count', family: 'ipv4', seconds: 1, megabytes: 400 },
      { command: 'ct list', family: 'ipv4', seconds: 2, megabytes: 149.9 },
      { command: 'ct list', family: 'ipv6', seconds: 90, megabytes: 150 },
    ],
    bpftool: { seconds: 6, megabytes: 900 },
    mapList: { seconds: 1, megabytes: 100 },
    scrape: { milliseconds: { median: 5, q1: 5, q3: 5, min: 4, max: 9 }, bytes: 40_000 },
    resize: { copied: 1_000_000, seconds: 1, longestGapMs: 3 },
    memory: [],
    ...change,
  };
}

function met(verdicts: Verdict[]): Record<string, boolean> {
  return Object.fromEntries(verdicts.map(({ key, met }) => [key, met]));
}

function compared(key: string, median: number) {
  const ratio = (pair: string, time: number) => ({ pair, time: summary(time), cpu: summary(1) });
  return { key, title: key, ratios: [ratio('sekisho/ipvs', 9), ratio('sekisho/nftables', median)] };
}

function control(first: number, services = 10_000): ControlFigures {
  const step = (seconds: number) => ({ seconds: summary(seconds), longestLagMs: summary(20) });
  const other = step(9);
  return {
    ...{ services, backends: 10, megabytes: summary(300) },
    steps: {
      ...{ start: other, first: step(first), unchanged: step(0.5), changed: other },
      ...{ alone: other, restart: other },
    },
    maglev: {
      ...{ slots: 16_381, backends: 1000, milliseconds: summary(2) },
      ...{ tables: 500, seconds: 1, longestGapMs: 3 },
    },
  };
}

test('the median of a ratio to nftables decides whether its goal is met', () => {
  const verdicts = judgeRatios([compared('udp-1', 1.1), compared('udp-10k', 1.099)]);
  assert.deepEqual(met(verdicts), { 'udp-1': true, 'udp-10k': false });
  assert.deepEqual(judgeRatios([compared('rr', 2)]), [], 'without a goal');
});

test('no path of a service is to be slower than nftables', () => {
  const verdicts = judgeServices([compared('dsr-rr', 1), compared('cluster-ip-rr', 0.999)]);
  assert.deepEqual(met(verdicts), { 'dsr-rr': true, 'cluster-ip-rr': false });
});

test('ten thousand services are to be there in time, and a second time at once', () => {
  assert.deepEqual(met(judgeControl(control(5))), {
    'services-first': true,
    'services-unchanged': true,
  });
  const [first] = judgeControl(control(5.01));
  assert.ok(first);
  const texts = [figureText(first), goalText(first.goal), first.met];
  assert.deepEqual(texts, ['5.01 (0.10–9,000.00) s', '≤ 5 s', false]);
  assert.deepEqual(judgeControl(control(1, 9999)), []);
});

test('a packet is to cost less than the reference, in every row that has one', () => {
  const verdicts = judgePackets([row(446, 447), row(447, 447), row(9999)]);
  assert.deepEqual(
    verdicts.map(({ met }) => met),
    [true, false],
  );
  assert.equal(verdicts[0]?.title, 'ipv4 tcp to_netdev, 100k flows');
});

test('a million entries: memory of each family, speed beside bpftool, gaps beside calls', () => {
  assert.deepEqual(met(judgeScale(scale())), {
    'list-memory-ipv4': true,
    'list-memory-ipv6': false,
    'list-speed': true,
    expiry: true,
    'gap-nothing': true,
    'gap-all': false,
  });
  const slower = scale({ bpftool: { seconds: 5.9, megabytes: 900 } });
  assert.equal(met(judgeScale(slower))['list-speed'], false);
});

test('without bpftool its goal is not met, and the table says why', () => {
  const verdict = judgeScale(scale({ bpftool: undefined })).find(({ key }) => key === 'list-speed');
  assert.ok(verdict);
  assert.deepEqual([verdict.met, figureText(verdict)], [false, 'not measured']);
});

test('a rehearsal with fewer entries is not judged', () => {
  assert.deepEqual(judgeScale(scale({ entries: 999_999 })), []);
});

test('goals and figures are printed in their units', () => {
  const [packet] = judgePackets([row(209.4, 422)]);
  assert.ok(packet);
  assert.deepEqual([figureText(packet), goalText(packet.goal)], ['209 (0–9,000) ns', '< 422 ns']);
  const texts = judgeScale(scale()).map((verdict) => [figureText(verdict), goalText(verdict.goal)]);
  assert.deepEqual(texts[0], ['149.9 MB', '< 150 MB']);
  assert.deepEqual(texts[2], ['3.00', '≥ 3.00']);
});
