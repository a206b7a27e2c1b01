import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { type Signal, watchEvents } from '../../agent/daemon/events.ts';
import { objectPath } from '../../agent/engine/objects.ts';
import { type BpfMap, createMap } from '../../agent/kernel/map.ts';
import { openObject } from '../../agent/kernel/object.ts';
import { skipReason } from '../kernel/sandbox.ts';
import { until } from '../lib/wait.ts';

const OBJECT = 'test-ipv4-ring.bpf.o';
const [PRESSURE, FILL] = [0, 1];

/** Writes records of two words, all of them `number`: an event of that type, of that table. */
function openRing(stack: DisposableStack): { map: BpfMap; send(number: number): void } {
  const object = stack.use(openObject(objectPath(OBJECT)));
  object.load();
  const program = stack.use(object.program('fill'));
  return {
    map: stack.use(object.map('ring')),
    send(number) {
      program.run(new Uint8Array(Uint32Array.of(number, 1, 2, 0, 0).buffer));
    },
  };
}

function listen(ipv4: BpfMap, ipv6: BpfMap) {
  const said: string[] = [];
  const heard: Signal[] = [];
  const note = (_: unknown, message?: string) => void said.push(message ?? '');
  const logger = { debug: note, info: note, warn: note, error: note };
  const watch = watchEvents({ ipv4, ipv6 }, (signal) => heard.push(signal), logger);
  return { said, heard, watch };
}

describe('the daemon listens to both families', { skip: skipReason }, () => {
  before(() => {
    const root = join(import.meta.dirname, '../..');
    execFileSync('make', ['-s', `build/bpf/${OBJECT}`], { cwd: root, stdio: 'pipe' });
  });

  test('each signal is told with its family, what comes together as one', async () => {
    using stack = new DisposableStack();
    const [ipv4, ipv6] = [openRing(stack), openRing(stack)];
    for (let i = 0; i < 5; i++) ipv6.send(FILL);
    ipv6.send(PRESSURE);
    const { heard, said, watch } = listen(ipv4.map, ipv6.map);
    stack.use(watch);
    await until('the first', () => heard.length >= 2);
    assert.deepEqual(heard, [
      { family: 'ipv6', type: 'table_fill', count: 5 },
      { family: 'ipv6', type: 'nat_pressure', count: 1 },
    ]);
    ipv4.send(PRESSURE);
    await until('the last', () => heard.length === 3);
    assert.deepEqual(heard.at(-1), { family: 'ipv4', type: 'nat_pressure', count: 1 });
    assert.deepEqual(said, []);
  });

  test('hears nothing more once it is disposed, and says nothing about it', async () => {
    using stack = new DisposableStack();
    const [ipv4, ipv6] = [openRing(stack), openRing(stack)];
    const { heard, said, watch } = listen(ipv4.map, ipv6.map);
    ipv4.send(FILL);
    await until('the signal', () => heard.length === 1);
    watch[Symbol.dispose]();
    ipv4.send(FILL);
    const again = listen(ipv4.map, ipv6.map);
    await until('whoever comes next', () => again.heard.length === 1);
    again.watch[Symbol.dispose]();
    assert.deepEqual([heard.length, said, again.said], [1, [], []]);
  });

  test('buffers that cannot be read are a warning', () => {
    using stack = new DisposableStack();
    const { map } = openRing(stack);
    const shape = { name: 'none', keySize: 4, valueSize: 4, maxEntries: 1 };
    using other = createMap({ type: 'array', ...shape });
    const { said, watch } = listen(map, other);
    assert.deepEqual(said, ['signals of the datapath cannot be heard']);
    watch[Symbol.dispose]();
  });
});
