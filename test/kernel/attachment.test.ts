import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { attachHooks, sweepAttachments } from '../../agent/engine/attach.ts';
import {
  type AttachMode,
  readSlot,
  type Slot,
  slotPin,
  stagedPin,
} from '../../agent/engine/attachment.ts';
import { exit, moveImmediate } from '../../agent/kernel/assembler.ts';
import { attachTcx } from '../../agent/kernel/link.ts';
import { loadProgram } from '../../agent/kernel/load.ts';
import type { BpfProgram } from '../../agent/kernel/program.ts';
import { attachTc, listFilters } from '../../agent/kernel/tc.ts';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { idlePrograms } from '../lib/idle-programs.ts';
import { inOwnNamespace, mountBpffs, runInOwnNamespace, skipReason } from './sandbox.ts';

const QUIET = { debug() {}, info() {}, warn() {}, error() {} };
const OURS = 'sekisho_to_netdev_ipv4';
const TC_ACT_UNSPEC = -1;

/** What a crash can leave: what is pinned for a slot, what is staged, whose filter is up. */
interface Wreck {
  name: string;
  pinned?: 'link' | 'program';
  staged?: 'link' | 'program';
  filter?: 'pinned' | 'staged';
}

const WRECKS: Wreck[] = [
  { name: 'nothing at all' },
  { name: 'a program that no filter has yet', staged: 'program' },
  { name: 'a filter whose pin is to come', staged: 'program', filter: 'staged' },
  {
    name: 'a filter that is to be replaced',
    pinned: 'program',
    staged: 'program',
    filter: 'pinned',
  },
  { name: 'a filter that was replaced', pinned: 'program', staged: 'program', filter: 'staged' },
  { name: 'a link whose filter is to come', pinned: 'link', staged: 'program' },
  { name: 'a link and the filter after it', pinned: 'link', staged: 'program', filter: 'staged' },
  { name: 'a link whose pin is to come', staged: 'link' },
  { name: 'a filter and the link after it', pinned: 'program', staged: 'link', filter: 'pinned' },
  { name: 'a link whose filter is gone', pinned: 'program', staged: 'link' },
  { name: 'a pin whose filter is gone', pinned: 'program' },
];

let devices = 0;

function makeDevice(): number {
  const name = `at${devices++}`;
  execFileSync('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-peer`]);
  return Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
}

/** Puts everything that the wreck names into the slot, as the daemon would have. */
function wreck(bpffs: string, slot: Slot, { pinned, staged, filter }: Wreck): void {
  mkdirSync(join(bpffs, 'links'), { recursive: true });
  const path = slotPin(bpffs, slot);
  using program = loadProgram('sched_cls', 'before', [moveImmediate(0, TC_ACT_UNSPEC), exit()]);
  using other = loadProgram('sched_cls', 'staged', [moveImmediate(0, TC_ACT_UNSPEC), exit()]);
  const pin = (kind: 'link' | 'program', which: BpfProgram, at: string) => {
    if (kind === 'program') return which.pin(at);
    using link = attachTcx(which, slot.ifindex, 'egress');
    link.pin(at);
  };
  if (pinned) pin(pinned, program, path);
  if (staged) pin(staged, other, stagedPin(path, staged === 'link' ? 'tcx' : 'tc'));
  if (filter)
    attachTc(
      filter === 'pinned' ? program : other,
      { ifindex: slot.ifindex, direction: 'egress' },
      OURS,
    );
}

function defineTests(): void {
  execFileSync('mount', ['-t', 'sysfs', 'sysfs', '/sys']);
  const hasTcx = ATTACH_MODES.every(({ skip }) => skip === false);

  for (const { attach, skip } of ATTACH_MODES) {
    for (const left of WRECKS) {
      const needsTcx = [left.pinned, left.staged].includes('link') && !hasTcx;
      test(
        `after a crash that left ${left.name}, ${attach} attaches and nothing is left over`,
        {
          skip: skip || (needsTcx && 'the kernel has no TCX'),
        },
        () => checkRecovery(attach, left),
      );
    }
  }

  test('what is not wanted is removed, a change that a crash cut short as well', () => {
    for (const left of WRECKS.filter(({ pinned, staged }) => {
      return hasTcx || ![pinned, staged].includes('link');
    })) {
      using bpffs = mountBpffs();
      const slot: Slot = { ifindex: makeDevice(), hook: 'to_netdev', family: 'ipv4' };
      wreck(bpffs.path, slot, left);
      sweepAttachments(bpffs.path, () => false, QUIET);
      assert.deepEqual(readdirSync(join(bpffs.path, 'links')), [], left.name);
      assert.deepEqual(listFilters({ ifindex: slot.ifindex, direction: 'egress' }), [], left.name);
    }
  });
}

/** The first start after the crash: attach, then sweep. */
function checkRecovery(attach: AttachMode, left: Wreck): void {
  using bpffs = mountBpffs();
  using programs = idlePrograms();
  const slot: Slot = { ifindex: makeDevice(), hook: 'to_netdev', family: 'ipv4' };
  wreck(bpffs.path, slot, left);
  attachHooks({ bpffs: bpffs.path, programs, attach }, slot.ifindex, ['to_netdev']);
  sweepAttachments(bpffs.path, () => true, QUIET);
  const { id } = programs.ipv4.to_netdev;
  assert.deepEqual(readSlot(bpffs.path, slot), { ...slot, attach, programId: id, attached: true });
  const filters = listFilters({ ifindex: slot.ifindex, direction: 'egress' });
  assert.equal(filters.length, attach === 'tc' ? 2 : 0);
  const names = readdirSync(join(bpffs.path, 'links')).sort();
  const expected = ['ipv4', 'ipv6'].map((family) => `${slot.ifindex}_to_netdev_${family}`);
  assert.deepEqual(names, expected);
}

if (inOwnNamespace()) {
  defineTests();
} else {
  test('attachments, in a network namespace of their own', { skip: skipReason }, () => {
    const report = runInOwnNamespace(import.meta.filename);
    assert.equal(report, undefined, report);
  });
}
