import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { skipReason } from '../kernel/sandbox.ts';
import { fillConntrack, fillNat } from '../lib/crowd.ts';
import { measureCommand, peakMemory } from '../lib/measured.ts';
import { until } from '../lib/wait.ts';
import { type Pinned, pinDatapath, SEKISHO } from './pinned.ts';

const FEW = 20_000;
const MANY = 200_000;
/** What ten times as many entries may cost more: the heap's young generation, no entries. */
const GROWTH_MB = 40;
const LIMIT_MB = 150;

describe('listings of large tables', { skip: skipReason }, () => {
  let few: Pinned;
  let many: Pinned;

  before(async () => {
    few = await pinCrowd(FEW);
    many = await pinCrowd(MANY);
  });
  after(() => {
    few?.[Symbol.dispose]();
    many?.[Symbol.dispose]();
  });

  for (const command of ['ct list', 'ct list -o json', 'nat list', 'ct count', 'nat ports']) {
    it(`take no more memory for ten times as many entries: ${command}`, async () => {
      const measure = ({ config }: Pinned) =>
        measureCommand(SEKISHO, [...command.split(' '), '--config', config]);
      const [small, large] = [await measure(few), await measure(many)];
      const told = `${small.megabytes} MB for ${FEW}, ${large.megabytes} MB for ${MANY}`;
      assert.ok(large.megabytes - small.megabytes < GROWTH_MB, told);
      assert.ok(large.megabytes < LIMIT_MB, told);
    });
  }

  it('wait for a slow reader, and lose nothing', async () => {
    const child = spawn(SEKISHO, ['ct', 'list', '--config', many.config]);
    const { stdout, pid } = child;
    const [first] = await once(stdout, 'data');
    stdout.pause();
    await until('the listing to wait for its reader', standsStill(pid), {
      timeout: 60_000,
    });
    assert.ok(peakMemory(pid) < LIMIT_MB, `${peakMemory(pid)} MB`);
    assert.equal(child.exitCode, null);
    let lines = count(first);
    stdout.on('data', (piece: Buffer) => {
      lines += count(piece);
    });
    stdout.resume();
    await once(child, 'close');
    assert.deepEqual([lines, child.exitCode], [MANY, 0]);
  });

  it('end quietly with a reader that has seen enough', async () => {
    for (const command of ['ct list', 'ct list -o json', 'nat list']) {
      const script = `set -o pipefail; ${SEKISHO} ${command} --config ${many.config} | head -2`;
      const { stdout, stderr } = await promisify(execFile)('bash', ['-c', script]);
      assert.equal(stdout.split('\n').length, 3);
      assert.equal(stderr, '');
    }
  });

  it('count every entry once', async () => {
    const { lines } = await many.run('ct', 'count');
    assert.equal(lines.at(-1), `total ${MANY}`);
  });
});

async function pinCrowd(count: number): Promise<Pinned> {
  const size = count + 20_000;
  const pinned = await pinDatapath({ ct_tcp: size, snat: size });
  const crowd = { family: 'ipv4', count, expires: pinned.now() + 3600 } as const;
  using conntrack = openPinnedMap(join(pinned.bpffs, 'ipv4/ct_tcp')) as BpfMap;
  await fillConntrack(conntrack, crowd);
  using nat = openPinnedMap(join(pinned.bpffs, 'ipv4/snat')) as BpfMap;
  await fillNat(nat, crowd);
  return pinned;
}

/** Whether a process has written nothing for several looks in a row. */
function standsStill(pid: number | undefined): () => boolean {
  let [before, looks] = ['', 0];
  return () => {
    const written = /^wchar: \d+$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[0] ?? '';
    looks = written === before ? looks + 1 : 0;
    before = written;
    return looks > 10;
  };
}

function count(piece: Buffer): number {
  let lines = 0;
  for (const byte of piece) if (byte === 0x0a) lines++;
  return lines;
}
