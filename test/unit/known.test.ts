import assert from 'node:assert/strict';
import { test } from 'node:test';
import { knownNames } from '../../agent/engine/known.ts';
import { parseAddress } from '../../agent/lib/ip.ts';

const WEB = { name: 'web', interface: 'lxc-web', addresses: ['10.0.1.10', 'fd00:1::10'], id: 3 };
const ROW = row('10.0.1.10', 7, WEB.id);

function row(address: string, ifindex: number, id: number) {
  const endpoint = { ifindex, id, identity: id, flags: 0, mtu: 1500 };
  return { addr: parseAddress(address).bytes, endpoint };
}

test('the interface behind the rows of an endpoint stands for its name', () => {
  const host = row('192.0.2.2', 0, 0);
  const names = knownNames([WEB], [host, ROW, row('fd00:1::10', 7, 3)], new Set([7]));
  assert.deepEqual([...names], [['lxc-web', 7]]);
});

test('nothing stands for a name once the hooks went with the interface', () => {
  assert.deepEqual([...knownNames([WEB], [ROW], new Set([8]))], []);
});

test('a row of another endpoint tells nothing, whichever part of it is the same', () => {
  for (const other of [row('10.0.1.11', 7, 3), row('10.0.1.10', 7, 4)]) {
    assert.deepEqual([...knownNames([WEB], [other], new Set([7]))], []);
  }
});
