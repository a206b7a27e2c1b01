import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { configure } from '../lib/daemon.ts';
import { openNotifySocket } from '../lib/notify-socket.ts';
import { nth } from '../lib/scene.ts';
import { topology } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

const BINARY = fileURLToPath(new URL('../../bin/sekisho', import.meta.url));
const MAPS = { ctTcp: 4096, ctAny: 2048, nat: 4096 };

test('the service manager is told how the daemon fares', async () => {
  await using topo = await topology();
  const node = nth(topo.nodes);
  using manager = openNotifySocket(join(topo.directory, 'notify'));
  const said: string[][] = [];
  const heard = (what: string, line: RegExp, from = 0) =>
    until(what, () => {
      said.push(...manager.take());
      return said.slice(from).some((lines) => lines.some((text) => line.test(text)));
    });

  const command = [BINARY, 'agent', '--config', configure(node, { maps: MAPS })];
  const watched = { NOTIFY_SOCKET: manager.address, WATCHDOG_USEC: '200000' };
  const env = { ...process.env, ...watched };
  const child = node.ns.spawn(command, { env, stdio: 'ignore' });
  const ended = once(child, 'exit');
  await heard('READY', /^READY=1$/);
  assert.deepEqual(said[0], ['READY=1', 'STATUS=serving 1 endpoints on eth0']);
  await heard('two signs of life', /^WATCHDOG=1$/, said.length + 1);

  const reloading = said.length;
  child.kill('SIGHUP');
  await heard('READY again', /^READY=1$/, reloading);
  const reload = said.slice(reloading).filter(([line]) => line !== 'WATCHDOG=1');
  assert.deepEqual(
    reload.map(([line]) => line),
    ['RELOADING=1', 'READY=1'],
  );
  const [, since] = /^MONOTONIC_USEC=(\d+)$/.exec(reload[0]?.[1] ?? '') ?? [];
  const age = process.hrtime.bigint() / 1000n - BigInt(since ?? 0);
  assert.ok(age > 0n && age < 60_000_000n, `${age} µs`);

  child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  said.push(...manager.take());
  assert.equal(said.at(-1)?.[0], 'STOPPING=1');
});
