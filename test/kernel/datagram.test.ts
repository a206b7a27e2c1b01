import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { sendDatagram } from '../../agent/kernel/datagram.ts';
import { KernelError } from '../../agent/lib/errors.ts';
import { openNotifySocket } from '../lib/notify-socket.ts';

test('a datagram arrives whole, at a path and at an abstract name', () => {
  const directory = mkdtempSync(join(tmpdir(), `skt-${process.pid}-`));
  try {
    for (const address of [join(directory, 'socket'), `@skt-${process.pid}-datagram`]) {
      using socket = openNotifySocket(address);
      sendDatagram(address, 'READY=1\nSTATUS=größer');
      sendDatagram(address, 'second');
      assert.deepEqual(socket.take(), [['READY=1', 'STATUS=größer'], ['second']], address);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('where nobody listens, the error says so', () => {
  const isRefused = (error: unknown) =>
    error instanceof KernelError && ['ECONNREFUSED', 'ENOENT'].includes(error.errnoName);
  assert.throws(() => sendDatagram(`@skt-${process.pid}-nobody`, 'x'), isRefused);
  assert.throws(() => sendDatagram(`/nowhere/skt-${process.pid}`, 'x'), isRefused);
  assert.throws(() => sendDatagram(`/${'x'.repeat(200)}`, 'x'), RangeError);
});
