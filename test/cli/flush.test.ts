import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { lockFile } from '../../agent/kernel/fs.ts';
import { parseAddress } from '../../agent/lib/ip.ts';
import { skipReason } from '../kernel/sandbox.ts';
import { flow, IN, OUT, type Pinned, pinDatapath, TCP } from './pinned.ts';

const POD = '10.0.1.10';
const NODE = '192.168.1.5';
const WORLD = '203.0.113.45';

describe('what removes entries', { skip: skipReason }, () => {
  let pinned: Pinned;

  beforeEach(async () => {
    pinned = await pinDatapath();
  });
  afterEach(() => pinned?.[Symbol.dispose]());

  /** A masqueraded connection: its CT entry and both halves of its NAT pair. */
  function addConnection(port: number) {
    const expires = pinned.now() + 600;
    const [node, pod] = [parseAddress(NODE).bytes, parseAddress(POD).bytes];
    const forward = flow(TCP, OUT, POD, port, WORLD, 443);
    pinned.addConntrack('ct_tcp', forward, { expires, seen: 3, nat_addr: node, nat_port: port });
    pinned.addNat(forward, { expires, addr: node, port });
    pinned.addNat(flow(TCP, IN, WORLD, 443, NODE, port), { expires, addr: pod, port });
  }

  async function left(): Promise<[conntrack: number, nat: number]> {
    const conntrack = await pinned.run('ct', 'list');
    const nat = await pinned.run('nat', 'list');
    return [conntrack.lines.length, nat.lines.length];
  }

  it('flushes live entries together with their NAT pairs, and only those that match', async () => {
    addConnection(40000);
    addConnection(40001);
    const { status, lines, stderr } = await pinned.run('ct', 'flush', '--sport', '40000');
    assert.equal(status, 0, stderr);
    const { bpffs } = pinned;
    assert.ok(lines.includes(`Flushed 1 entries from ${bpffs}/ipv4/ct_tcp`), lines.join('\n'));
    assert.ok(lines.includes(`Flushed 2 entries from ${bpffs}/ipv4/snat`), lines.join('\n'));
    assert.ok(lines.includes(`Flushed 0 entries from ${bpffs}/ipv6/ct_any`), lines.join('\n'));
    assert.deepEqual(await left(), [1, 2]);
  });

  it('flushes more entries than one batch holds', async () => {
    for (let i = 0; i < 5000; i++) addConnection(40000 + (i % 20000));
    const { lines } = await pinned.run('ct', 'flush', '--family', 'ipv4');
    const [, flushed] = /^Flushed (\d+) entries from .*ct_tcp$/.exec(lines[0] ?? '') ?? [];
    assert.ok(Number(flushed) > 4096, lines[0]);
    assert.equal((await left())[0], 0);
  });

  it('flushes both halves of a NAT pair when one of them matches', async () => {
    addConnection(40000);
    addConnection(40001);
    const { lines } = await pinned.run('nat', 'flush', '--kind', 'in', '--dport', '40000');
    assert.equal(lines[0], `Flushed 2 entries from ${pinned.bpffs}/ipv4/snat`);
    assert.deepEqual(await left(), [2, 2]);
  });

  it('cleans up every pin and says so', async () => {
    writeFileSync(join(pinned.runDir, 'agent.sock'), '');
    const { status, lines, stderr } = await pinned.run('cleanup');
    assert.equal(status, 0, stderr);
    assert.ok(lines.includes(`unpinned ${pinned.bpffs}/ipv4/ct_tcp`));
    assert.ok(lines.includes(`removed ${pinned.runDir}/agent.sock`));
    assert.equal(existsSync(pinned.bpffs), false);
    assert.equal((await pinned.run('ct', 'list')).status, 1);
    assert.deepEqual((await pinned.run('cleanup')).lines, ['nothing to remove']);
  });

  it('refuses to clean up under a running agent', async () => {
    using lock = lockFile(join(pinned.runDir, 'agent.lock'));
    assert.ok(lock);
    const { status, stderr } = await pinned.run('cleanup');
    assert.equal(status, 1);
    assert.match(stderr, /^sekisho: an agent is running \(stop it first.*\)\n$/);
    assert.ok(existsSync(join(pinned.bpffs, 'ipv4/ct_tcp')));
  });
});
