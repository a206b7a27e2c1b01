import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  call,
  exit,
  type Instruction,
  loadU32,
  moveImmediate,
  storeU32,
} from '../../agent/kernel/assembler.ts';
import { attachTcx, openPinnedLink } from '../../agent/kernel/link.ts';
import { loadProgram } from '../../agent/kernel/load.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { programById } from '../../agent/kernel/program.ts';
import { KernelError } from '../../agent/lib/errors.ts';
import {
  inOwnNamespace,
  isOlderThan,
  mountBpffs,
  runInOwnNamespace,
  skipReason,
} from './sandbox.ts';

const TCX_NEXT = -1;
const pass: Instruction[] = [moveImmediate(0, TCX_NEXT), exit()];

/** A veth pair of this namespace; ifindex of one end. */
function makeVeth(name: string): number {
  execFileSync('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-peer`]);
  return Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
}

function defineLinkTests(): void {
  execFileSync('mount', ['-t', 'sysfs', 'sysfs', '/sys']);

  test('a link attaches, is pinned, survives, is updated and detaches', () => {
    using bpffs = mountBpffs();
    const path = join(bpffs.path, 'link');
    const ifindex = makeVeth('sk-test');
    using program = loadProgram('sched_cls', 'first', pass);
    {
      using link = attachTcx(program, ifindex, 'ingress');
      link.pin(path);
    }
    using link = openPinnedLink(path);
    assert.ok(link);
    assert.equal(link.ifindex, ifindex);
    assert.equal(link.direction, 'ingress');
    assert.equal(link.programId, program.id);

    using second = loadProgram('sched_cls', 'second', [moveImmediate(0, 0), exit()]);
    link.update(second);
    assert.equal(link.programId, second.id);
    link.update(second);
    link.detach();
    assert.equal(link.ifindex, 0);
  });

  test('the same program does not attach twice to one hook', () => {
    const ifindex = makeVeth('sk-twice');
    using program = loadProgram('sched_cls', 'once', pass);
    using other = loadProgram('sched_cls', 'other', pass);
    using _link = attachTcx(program, ifindex, 'egress');
    assert.throws(() => attachTcx(program, ifindex, 'egress'), { errnoName: 'EEXIST' });
    using second = attachTcx(other, ifindex, 'egress');
    assert.throws(() => second.update(program), { errnoName: 'EEXIST' });
  });

  test('a link whose device went away says so', () => {
    const ifindex = makeVeth('sk-gone');
    using program = loadProgram('sched_cls', 'gone', pass);
    using link = attachTcx(program, ifindex, 'ingress');
    execFileSync('ip', ['link', 'del', 'sk-gone']);
    assert.equal(link.ifindex, 0);
    using other = loadProgram('sched_cls', 'other', [moveImmediate(0, 0), exit()]);
    assert.throws(() => link.update(other), { errnoName: 'ENOLINK' });
  });

  test('an interface that does not exist has its own code', () => {
    using program = loadProgram('sched_cls', 'nowhere', pass);
    assert.throws(() => attachTcx(program, 4242, 'ingress'), { code: 'E_NO_INTERFACE' });
  });

  test('a pinned link is not opened as a map', () => {
    using bpffs = mountBpffs();
    const path = join(bpffs.path, 'link');
    assert.equal(openPinnedLink(path), undefined);
    const ifindex = makeVeth('sk-kind');
    using program = loadProgram('sched_cls', 'kind', pass);
    using link = attachTcx(program, ifindex, 'ingress');
    link.pin(path);
    assert.throws(() => openPinnedMap(path), { code: 'E_LAYOUT' });
  });
}

function defineProgramTests(): void {
  test('a packet program runs without an interface', { skip: skipReason }, () => {
    using program = loadProgram('sched_cls', 'length', [loadU32(0, 1, 0), exit()]);
    const result = program.testRun({ data: new Uint8Array(100), repeat: 10 });
    assert.equal(result.retval, 100);
    assert.equal(result.data.length, 100);
    const ctx = new Uint8Array(192);
    assert.equal(program.testRun({ data: new Uint8Array(60), ctx }).ctx.length, 192);
    assert.match(program.tag, /^[0-9a-f]{16}$/);
  });

  test('a SYSCALL program writes its context back', { skip: skipReason }, async () => {
    const answer = [moveImmediate(2, 42), storeU32(1, 4, 2), moveImmediate(0, 7), exit()];
    using program = loadProgram('syscall', 'answer', answer);
    const ctx = new Uint8Array(8);
    assert.equal(program.run(ctx), 7);
    assert.deepEqual([...ctx], [0, 0, 0, 0, 42, 0, 0, 0]);
    ctx.fill(0);
    assert.equal(await program.runAsync(ctx), 7);
    assert.equal(ctx[4], 42);
    using same = programById(program.id);
    assert.equal(same?.name, 'answer');
  });

  test('a refused program shows what the verifier said', { skip: skipReason }, () => {
    assert.throws(
      () => loadProgram('sched_cls', 'bad', [call(9999), exit()]),
      (error) => error instanceof KernelError && /invalid func|unknown/.test(error.detail ?? ''),
    );
  });
}

if (inOwnNamespace()) {
  defineLinkTests();
} else {
  defineProgramTests();
  const skip = skipReason || (isOlderThan(6, 6) && 'TCX came with Linux 6.6');
  test('links, in a network namespace of their own', { skip }, () => {
    const report = runInOwnNamespace(import.meta.filename);
    assert.equal(report, undefined, report);
  });
}
