import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { exit, type Instruction, moveImmediate } from '../../agent/kernel/assembler.ts';
import { attachTcx } from '../../agent/kernel/link.ts';
import { loadProgram } from '../../agent/kernel/load.ts';
import { attachTc, detachTc, listFilters, type TcHook } from '../../agent/kernel/tc.ts';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { inOwnNamespace, runInOwnNamespace, skipReason } from './sandbox.ts';

const [TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_SHOT] = [-1, 0, 2];
const noTcx = ATTACH_MODES.find(({ attach }) => attach === 'tcx')?.skip ?? false;
const REPLACEMENTS = 2000;

/** Sends datagrams without a pause until its input ends, then says how many. */
const SENDER = `
import { createSocket } from 'node:dgram';
let sent = 0;
let more = true;
process.stdin.on('end', () => { more = false; }).resume();
const socket = createSocket('udp4');
const send = () => socket.send('x', 9, '192.0.2.2', () => { if (++sent === 1) console.log('on'); });
const round = () => {
  for (let i = 0; i < 20; i++) send();
  if (more) setImmediate(round);
  else socket.close(() => console.log(sent));
};
round();
`;

/** Sends one datagram. */
const ONE = `
const socket = require('node:dgram').createSocket('udp4');
socket.send('x', 9, '192.0.2.2', () => socket.close());
`;

let pairs = 0;

/** A veth pair that is up; its first end is the hook's. */
function makePair(direction: TcHook['direction']): { name: string; peer: string; hook: TcHook } {
  const name = `tc${pairs++}`;
  const peer = `${name}-peer`;
  execFileSync('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', peer]);
  for (const end of [name, peer])
    execFileSync('ip', ['link', 'set', end, 'addrgenmode', 'none', 'up']);
  const ifindex = Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
  return { name, peer, hook: { ifindex, direction } };
}

/** 192.0.2.2 is behind it, and nobody else speaks. */
function addressPair(name: string): void {
  const neighbour = ['192.0.2.2', 'lladdr', '02:00:00:00:00:02', 'dev', name];
  execFileSync('ip', ['address', 'add', '192.0.2.1/24', 'dev', name]);
  execFileSync('ip', ['neighbour', 'add', ...neighbour]);
}

function arrived(peer: string): number {
  return Number(readFileSync(`/sys/class/net/${peer}/statistics/rx_packets`));
}

function returning(code: number): Instruction[] {
  return [moveImmediate(0, code), exit()];
}

function tc(...args: string[]): string {
  return execFileSync('tc', args, { encoding: 'utf8' });
}

function defineTests(): void {
  execFileSync('mount', ['-t', 'sysfs', 'sysfs', '/sys']);

  test('a filter is attached, replaced where it stands, and leaves no qdisc behind', () => {
    const { name, hook } = makePair('egress');
    using first = loadProgram('sched_cls', 'first', returning(TC_ACT_UNSPEC));
    using second = loadProgram('sched_cls', 'second', returning(TC_ACT_UNSPEC));
    assert.deepEqual(listFilters(hook), []);
    attachTc(first, hook, 'ours');
    const [filter, ...others] = listFilters(hook);
    assert.deepEqual(others, []);
    assert.equal(filter?.programId, first.id);
    assert.match(tc('filter', 'show', 'dev', name, 'egress'), /protocol all .* ours direct-action/);
    attachTc(second, hook, 'ours');
    assert.deepEqual(listFilters(hook), [{ ...filter, programId: second.id }]);
    assert.equal(detachTc(hook, 'ours'), true);
    assert.equal(detachTc(hook, 'ours'), false);
    assert.doesNotMatch(tc('qdisc', 'show', 'dev', name), /clsact/);
  });

  test('two filters stand on one hook, and the other direction is another hook', () => {
    const { name, hook } = makePair('ingress');
    using program = loadProgram('sched_cls', 'both', returning(TC_ACT_UNSPEC));
    attachTc(program, hook, 'one');
    attachTc(program, hook, 'two');
    attachTc(program, { ...hook, direction: 'egress' }, 'one');
    const names = listFilters(hook).map((filter) => filter.name);
    assert.deepEqual(names.sort(), ['one', 'two']);
    detachTc(hook, 'one');
    assert.equal(listFilters(hook).length, 1);
    assert.equal(listFilters({ ...hook, direction: 'egress' }).length, 1);
    detachTc(hook, 'two');
    assert.match(tc('qdisc', 'show', 'dev', name), /clsact/);
  });

  test('filters of others keep their place, and the qdisc they stand on', () => {
    const { name, hook } = makePair('ingress');
    tc('qdisc', 'add', 'dev', name, 'clsact');
    const match = ['u32', 'match', 'u32', '0', '0', 'flowid', '1:1'];
    tc('filter', 'add', 'dev', name, 'ingress', 'priority', '1', ...match);
    using theirs = loadProgram('sched_cls', 'theirs', returning(TC_ACT_UNSPEC));
    using ours = loadProgram('sched_cls', 'ours', returning(TC_ACT_UNSPEC));
    attachTc(theirs, hook, 'theirs');
    const before = listFilters(hook);
    attachTc(ours, hook, 'ours');
    assert.equal(listFilters(hook).length, before.length + 1);
    detachTc(hook, 'ours');
    assert.deepEqual(listFilters(hook), before);
    detachTc(hook, 'theirs');
    assert.match(tc('filter', 'show', 'dev', name, 'ingress'), /u32/);
  });

  test('packets meet no empty hook while the program is replaced', async (t) => {
    const { name, peer, hook } = makePair('egress');
    using first = loadProgram('sched_cls', 'first', returning(TC_ACT_SHOT));
    using second = loadProgram('sched_cls', 'second', returning(TC_ACT_SHOT));
    attachTc(first, hook, 'ours');
    addressPair(name);
    const before = arrived(peer);
    const sender = spawn(process.execPath, ['--input-type=module', '-e', SENDER], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(sender.stdout, 'data');
    for (let i = 0; i < REPLACEMENTS; i++) attachTc(i % 2 ? first : second, hook, 'ours');
    sender.stdin.end();
    const [said] = await once(sender.stdout, 'data');
    assert.ok(Number(said) > REPLACEMENTS);
    t.diagnostic(`${Number(said)} packets, ${REPLACEMENTS} replacements`);
    assert.equal(arrived(peer) - before, 0);
    assert.equal(listFilters(hook).length, 1);
    execFileSync('ip', ['link', 'del', name]);
  });

  test('a verdict on TCX ends the hook, without one TC has its say', { skip: noTcx }, () => {
    const { name, peer, hook } = makePair('egress');
    addressPair(name);
    using drop = loadProgram('sched_cls', 'drop', returning(TC_ACT_SHOT));
    attachTc(drop, hook, 'drop');
    for (const [verdict, passes] of [
      [TC_ACT_OK, 1],
      [TC_ACT_UNSPEC, 0],
    ] as const) {
      using program = loadProgram('sched_cls', 'first', returning(verdict));
      using _link = attachTcx(program, hook.ifindex, 'egress');
      const before = arrived(peer);
      execFileSync(process.execPath, ['-e', ONE]);
      assert.equal(arrived(peer) - before, passes);
    }
    execFileSync('ip', ['link', 'del', name]);
  });

  test('an interface that does not exist has its own code, and no filters', () => {
    const hook: TcHook = { ifindex: 4242, direction: 'ingress' };
    using program = loadProgram('sched_cls', 'nowhere', returning(TC_ACT_UNSPEC));
    assert.throws(() => attachTc(program, hook, 'ours'), { code: 'E_NO_INTERFACE' });
    assert.deepEqual(listFilters(hook), []);
    assert.equal(detachTc(hook, 'ours'), false);
  });

  test('an ingress qdisc is refused: it would run an egress filter on ingress', () => {
    const { name, hook } = makePair('egress');
    tc('qdisc', 'add', 'dev', name, 'ingress');
    using program = loadProgram('sched_cls', 'refused', returning(TC_ACT_UNSPEC));
    assert.throws(() => attachTc(program, hook, 'ours'), { code: 'E_CONFLICT' });
  });
}

if (inOwnNamespace()) {
  defineTests();
} else {
  test('filters, in a network namespace of their own', { skip: skipReason }, () => {
    const report = runInOwnNamespace(import.meta.filename);
    assert.equal(report, undefined, report);
  });
}
