import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { decode, encode } from '../../agent/abi/codec.ts';
import { counter, drop_reason, hook, layouts } from '../../agent/abi/generated.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { possibleCpus } from '../../agent/kernel/system.ts';
import { parseAddress } from '../../agent/lib/ip.ts';
import { skipReason } from '../kernel/sandbox.ts';
import {
  flow,
  ICMP,
  IN,
  OUT,
  type Pinned,
  pinDatapath,
  RELATED,
  runSekisho,
  TCP,
  UDP,
} from './pinned.ts';

const POD = '10.0.1.10';
const NODE = '192.168.1.5';
const WORLD = '203.0.113.45';

describe('listings without a daemon', { skip: skipReason }, () => {
  let pinned: Pinned;
  let now: number;

  before(async () => {
    pinned = await pinDatapath();
    now = pinned.now();
    fill();
  });
  after(() => pinned?.[Symbol.dispose]());

  function fill() {
    const alive = { expires: now + 600, seen: 3, src_identity: 7 };
    const nat_addr = parseAddress(NODE).bytes;
    const nat = { nat_addr, nat_port: 40000 };
    pinned.addConntrack('ct_tcp', flow(TCP, OUT, POD, 40000, WORLD, 443), { ...alive, ...nat });
    pinned.addConntrack('ct_tcp', flow(TCP, IN, WORLD, 1234, POD, 80), { ...alive, flags: 0x13 });
    pinned.addConntrack('ct_tcp', flow(TCP, OUT, 'fd00::1', 40000, '2001:db8::1', 443), alive);
    pinned.addConntrack('ct_any', flow(UDP, OUT, POD, 5353, WORLD, 53), { ...alive, seen: 1 });
    pinned.addConntrack('ct_any', flow(ICMP, OUT | RELATED, POD, 0, WORLD, 0), alive);
    const times = { created: now - 4, expires: now + 600, class: 1 };
    pinned.addNat(flow(TCP, OUT, POD, 40000, WORLD, 443), {
      ...times,
      addr: nat_addr,
      port: 40000,
    });
    const addr = parseAddress(POD).bytes;
    for (const port of [40000, 40001]) {
      pinned.addNat(flow(TCP, IN, WORLD, 443, NODE, port), { ...times, addr, port: 40000 });
    }
  }

  it('prints every conntrack entry of both families', async () => {
    const { status, lines, stderr } = await pinned.run('ct', 'list');
    assert.equal(status, 0, stderr);
    assert.equal(lines.length, 5);
    const expected = [
      `TCP OUT 10.0.1.10:40000 -> 203.0.113.45:443 expires=${now + 600} Packets=0 Bytes=0 RxFlagsSeen=0x00 LastRxReport=0 TxFlagsSeen=0x00 LastTxReport=0 Flags=0x0000 [ ] RevNAT=0 SourceSecurityID=7 BackendID=0`,
      `ICMP OUT 10.0.1.10:0 -> 203.0.113.45:0 related expires=${now + 600} Packets=0 Bytes=0 RxFlagsSeen=0x00 LastRxReport=0 TxFlagsSeen=0x00 LastTxReport=0 Flags=0x0000 [ ] RevNAT=0 SourceSecurityID=7 BackendID=0`,
    ];
    for (const line of expected) assert.ok(lines.includes(line), lines.join('\n'));
    assert.ok(
      lines.some((line) => line.startsWith('TCP OUT [fd00::1]:40000 -> [2001:db8::1]:443 ')),
    );
  });

  it('says with --time-diff how long entries have left', async () => {
    const { lines } = await pinned.run('ct', 'list', '--time-diff', '--dport', '53');
    const [, remaining] = /^UDP .* \(remaining: (\d+) sec\(s\)\) /.exec(lines[0] ?? '') ?? [];
    assert.ok(Number(remaining) > 500 && Number(remaining) <= 600, lines[0]);
  });

  it('filters by every word', async () => {
    const count = async (...words: string[]) =>
      (await pinned.run('ct', 'list', ...words)).lines.length;
    assert.equal(await count('--proto', 'tcp'), 3);
    assert.equal(await count('--src', '10.0.0.0/8', '--kind', 'out'), 3);
    assert.equal(await count('--dst', POD), 1);
    assert.equal(await count('--family', 'ipv6'), 1);
    assert.equal(await count('--sport', '1'), 0);
  });

  it('prints one JSON document', async () => {
    const { stdout } = await pinned.run('ct', 'list', '-o', 'json', '--proto', 'tcp');
    const entries = JSON.parse(stdout);
    assert.equal(entries.length, 3);
    const translated = entries.find((entry: { nat: unknown }) => entry.nat !== null);
    assert.deepEqual(translated.nat, { address: NODE, port: 40000 });
    assert.deepEqual(
      JSON.parse((await pinned.run('ct', 'list', '-o', 'json', '--sport', '1')).stdout),
      [],
    );
  });

  it('counts by protocol, kind and state', async () => {
    const { stdout } = await pinned.run('ct', 'count', '-o', 'json');
    const counts = JSON.parse(stdout).map((row: Record<string, unknown>) =>
      [row.family, row.protocol, row.kind, row.state, row.count].join(' '),
    );
    assert.deepEqual(counts.sort(), [
      'ipv4 ICMP OUT related one-way 1',
      'ipv4 TCP IN closing 1',
      'ipv4 TCP OUT established 1',
      'ipv4 UDP OUT unreplied 1',
      'ipv6 TCP OUT established 1',
    ]);
    assert.match((await pinned.run('ct', 'count')).stdout, /^total 5$/m);
  });

  it('prints NAT entries with their age', async () => {
    const { lines } = await pinned.run('nat', 'list', '--kind', 'out');
    assert.match(
      lines[0] ?? '',
      /^TCP OUT 10\.0\.1\.10:40000 -> 203\.0\.113\.45:443 XLATE_SRC 192\.168\.1\.5:40000 Created=\d+sec ago NeedsCT=0$/,
    );
    assert.equal((await pinned.run('nat', 'list')).lines.length, 3);
  });

  it('counts ports in use per destination', async () => {
    const { stdout } = await pinned.run('nat', 'ports', '--top', '1', '-o', 'json');
    assert.deepEqual(JSON.parse(stdout), [
      {
        protocol: 'TCP',
        egress: NODE,
        remote: `${WORLD}:443`,
        used: 2,
        capacity: 32_768,
        percent: (100 * 2) / 32_768,
      },
    ]);
  });

  it('takes filters on ports for the flow as it leaves', async () => {
    const used = async (...filter: string[]) =>
      JSON.parse((await pinned.run('nat', 'ports', '-o', 'json', ...filter)).stdout)[0]?.used;
    assert.equal(await used('--dst', WORLD, '--dport', '443', '--kind', 'out'), 2);
    assert.equal(await used('--src', NODE, '--sport', '40001'), 1);
    assert.equal(await used('--src', WORLD), undefined);
  });

  it('prints the histogram of attempts, failures last', async () => {
    const { lines } = await pinned.run('nat', 'retries');
    assert.equal(lines[0], '0: 0');
    assert.equal(lines.at(-2), '32: 0');
    assert.equal(lines.at(-1), 'failed: 0');
    assert.equal(lines.length, 34);
  });

  it('shows entries, capacity and memory of every map', async () => {
    const { stdout } = await pinned.run('map', 'list', '-o', 'json');
    const maps: { name: string; entries: number; memory: number; evicted: number }[] =
      JSON.parse(stdout);
    const found = maps.find(({ name }) => name === 'ipv4/ct_tcp');
    assert.deepEqual([found?.entries, found?.evicted], [2, 0]);
    assert.ok(found && found.memory > 8192 * 120);
    const slots = maps.find(({ name }) => name === 'ipv4/ct_tcp_maps');
    assert.equal(slots?.entries, 1, 'the slot of a resize is empty');
    assert.ok(maps.some(({ name }) => name === 'ipv6/counters'));
    const pins = readdirSync(pinned.bpffs, { withFileTypes: true }).filter((pin) => pin.isFile());
    assert.deepEqual(
      maps.map(({ name }) => name).filter((name) => !name.includes('/')),
      pins.map(({ name }) => name).sort(),
    );
  });

  it('shows in the status why packets were dropped', async () => {
    const slot =
      counter.COUNTER_DROPS +
      hook.HOOK_TO_NETDEV * drop_reason.DROP_REASON_COUNT +
      drop_reason.DROP_NAT_FULL;
    using counters = openPinnedMap(join(pinned.bpffs, 'ipv6', 'counters'));
    const perCpu = new BigUint64Array(possibleCpus()).fill(3n);
    counters?.update(new Uint8Array(Uint32Array.of(slot).buffer), new Uint8Array(perCpu.buffer));
    const packets = 3 * possibleCpus();
    const { drops } = JSON.parse((await pinned.run('status', '-o', 'json')).stdout);
    assert.deepEqual(drops, [{ family: 'ipv6', hook: 'to_netdev', reason: 'nat_full', packets }]);
    const { stdout } = await pinned.run('status');
    assert.match(stdout, new RegExp(`\\nDROPS\\n.*\\n +${packets} +nat_full +to_netdev +ipv6\\n`));
  });

  it('knows of no passes, and says so', async () => {
    const told = await pinned.run('gc', 'status');
    assert.deepEqual([told.status, told.stderr], [0, '']);
    assert.match(told.stdout, /^the agent is not running/);
    assert.equal((await pinned.run('gc', 'status', '-o', 'json')).stdout.trim(), 'null');
  });

  it('names endpoints as the daemon stored them', async () => {
    const layout = layouts.ipv4.endpoint;
    using map = openPinnedMap(join(pinned.bpffs, 'ipv4', 'endpoints'));
    const row = { ...decode(layout, new Uint8Array(layout.size)), id: 4 };
    map?.update(parseAddress(POD).bytes, encode(layout, row));
    const endpoint = { name: 'web-1', interface: 'lxc1', addresses: [POD], id: 4, source: 'api' };
    const stored = JSON.stringify({ version: 1, endpoints: [endpoint] });
    writeFileSync(join(pinned.runDir, 'endpoints.json'), stored);
    const [listed] = JSON.parse((await pinned.run('endpoint', 'list', '-o', 'json')).stdout);
    const { name, source, addresses, state } = listed;
    assert.deepEqual([name, source, addresses, state], ['web-1', 'api', [POD], null]);
  });

  it('calls a node without its daemon unhealthy', async () => {
    const { status, stdout } = await pinned.run('status');
    assert.equal(status, 1);
    assert.match(stdout, /not running/);
    assert.match(stdout, /unhealthy\n$/);
    const { healthy, agent } = JSON.parse((await pinned.run('status', '-o', 'json')).stdout);
    assert.deepEqual([healthy, agent], [false, null]);
  });

  it('goes on where the configuration has been spoilt, and says so', async () => {
    const spoilt = `${pinned.config}.spoilt`;
    writeFileSync(spoilt, `${readFileSync(pinned.config, 'utf8')}masquerade: { exclud: [] }\n`);
    const { status, stdout, stderr } = await runSekisho(['ct', 'list', '--config', spoilt]);
    assert.equal(status, 0);
    assert.equal(stdout, (await pinned.run('ct', 'list')).stdout);
    assert.match(
      stderr,
      /^sekisho: note: the configuration is not valid: .*:2:15: .*exclud"?.*\n$/,
    );
    for (const text of ['state: { bpfs: /nowhere }\n', 'stat: { bpffs: /nowhere }\n']) {
      writeFileSync(spoilt, text);
      assert.equal((await runSekisho(['ct', 'list', '--config', spoilt])).status, 1, text);
    }
    writeFileSync(spoilt, 'masquerade: { exclud: [] }\n');
    const usual = await runSekisho(['ct', 'list', '--config', spoilt]);
    assert.match(usual.stderr, /note: .*exclud/);
  });

  it('ends quietly when its reader leaves', async () => {
    const sekisho = fileURLToPath(new URL('../../bin/sekisho', import.meta.url));
    const child = spawn(sekisho, ['ct', 'list', '--config', pinned.config]);
    child.stdout.destroy();
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => {
      complaint += chunk;
    });
    const [code] = await new Promise<[number | null]>((done) =>
      child.on('close', (...result) => done([result[0]])),
    );
    assert.deepEqual([code, complaint], [0, '']);
  });
});
