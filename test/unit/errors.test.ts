import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError, formatError, KernelError, SekishoError } from '../../agent/lib/errors.ts';

test('an error is one line with its hint', () => {
  const error = new SekishoError('E_LOCKED', 'another agent is running', { hint: 'stop it first' });
  assert.equal(formatError(error), 'sekisho: another agent is running (stop it first)');
  assert.equal(formatError(new Error('one\ntwo')), 'sekisho: one');
  assert.equal(formatError('text'), 'sekisho: text');
});

test('verbose adds code, detail and the chain of causes', () => {
  const cause = new KernelError({
    code: 'E_LOAD',
    operation: 'load from_netdev',
    errno: 13,
    errnoName: 'EACCES',
    reason: 'permission denied',
    detail: '0: r1 = 0\nR0 !read_ok',
  });
  const error = new SekishoError('E_LAYOUT', 'the datapath did not start', { cause });
  assert.deepEqual(formatError(error, { verbose: true }).split('\n'), [
    'sekisho: the datapath did not start',
    '  code: E_LAYOUT (pinned state has a layout this version does not know)',
    '  caused by: cannot load from_netdev: permission denied (EACCES)',
    '  code: E_LOAD (the kernel refused a BPF program)',
    '    0: r1 = 0',
    '    R0 !read_ok',
  ]);
});

test('a configuration error says where it stands', () => {
  const place = { file: 'config.yaml', line: 3, column: 5, path: 'gc.min' };
  const error = new ConfigError('must be a duration', place);
  assert.equal(error.message, 'config.yaml:3:5: gc.min: must be a duration');
  assert.equal(error.line, 3);
  assert.equal(new ConfigError('bad', { path: 'gc' }).message, 'gc: bad');
});
