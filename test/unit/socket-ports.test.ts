import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readSocketPorts } from '../../agent/engine/socket-ports.ts';

test('the ports of the sockets of this machine are known by protocol', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await Promise.all([once(server, 'listening'), once(socket, 'listening')]);
  const [tcp, udp] = [(server.address() as AddressInfo).port, socket.address().port];
  try {
    const ports = await readSocketPorts();
    assert.deepEqual([ports.has(6, tcp), ports.has(17, udp)], [true, true]);
  } finally {
    server.close();
    socket.close();
  }
});

test('a connection of either family counts, in whatever state, and its peer does not', async (t) => {
  const proc = mkdtempSync(join(tmpdir(), 'skt-proc-'));
  t.after(() => rmSync(proc, { recursive: true }));
  const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n';
  const v4 = '   0: 0100007F:8235 2D7100CB:01BB 06 00000000:00000000 03:00000BB8 00000000\n';
  const v6 = `   1: ${'0'.repeat(32)}:9C40 ${'0'.repeat(32)}:0000 0A 00000000:00000000\n`;
  writeFileSync(join(proc, 'tcp'), head + v4);
  writeFileSync(join(proc, 'udp'), head);
  writeFileSync(join(proc, 'udp6'), head + v6);
  const ports = await readSocketPorts(proc);
  assert.deepEqual(
    [ports.has(6, 0x8235), ports.has(6, 443), ports.has(17, 0x8235), ports.has(17, 40_000)],
    [true, false, false, true],
  );
});

test('where the sockets cannot be read, every port may be one', async () => {
  assert.equal((await readSocketPorts('/nowhere')).has(6, 40_000), true);
});
