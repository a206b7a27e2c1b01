import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseAttach } from '../../agent/daemon/checks.ts';
import type { Capabilities } from '../../agent/kernel/capabilities.ts';

const choose = (attach: 'auto' | 'tcx' | 'tc', tcx: boolean) =>
  chooseAttach({ routing: 'fast', attach }, { tcx } as Capabilities);

test('auto takes TCX where the kernel has it, tc is always to be had', () => {
  assert.equal(choose('auto', true), 'tcx');
  assert.equal(choose('auto', false), 'tc');
  assert.equal(choose('tc', true), 'tc');
  assert.equal(choose('tc', false), 'tc');
  assert.equal(choose('tcx', true), 'tcx');
});

test('TCX that the kernel does not have is refused, with the place and what to do', () => {
  assert.throws(() => choose('tcx', false), {
    code: 'E_CONFIG',
    message: 'datapath.attach: the kernel has no TCX hooks',
    hint: 'use auto: Linux 6.6 or later has them',
  });
});
