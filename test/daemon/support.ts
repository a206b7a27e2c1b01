import { request } from 'node:http';
import { join } from 'node:path';
import { encode } from '../../agent/abi/codec.ts';
import { layouts } from '../../agent/abi/generated.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { nth, type Scene } from '../lib/scene.ts';
import { encodeKey, type FlowKey, openTable } from '../lib/tables.ts';
import type { Pod } from '../lib/topology.ts';

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: whatever the API answered
  body: any;
}

/** One request over the daemon's socket. */
export function call(scene: Scene, method: string, path: string, body?: object): Promise<Answer> {
  const socketPath = join(nth(scene.topo.nodes).runDir, 'agent.sock');
  const headers = body ? { 'content-type': 'application/json' } : {};
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  request({ socketPath, method, path, headers }, (response) => {
    response
      .toArray()
      .then((chunks) => {
        const text = Buffer.concat(chunks).toString();
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
      })
      .catch(reject);
  })
    .on('error', reject)
    .end(body && JSON.stringify(body));
  return promise;
}

/** Writes an entry of an IPv4 TCP flow, `expires` in seconds of the datapath's clock. */
export function insertFlow(bpffs: string, key: FlowKey, expires = 0xffff_ffff): void {
  using map = openPinnedMap(join(bpffs, 'ipv4', 'ct_tcp'));
  map?.update(encodeKey(key), encode(layouts.ipv4.ct_entry, { expires }));
}

/** Entries that name an address of the pod, in all tables of IPv4. */
export async function entriesOf(scene: Scene, pod: Pod): Promise<number> {
  const address = pod.addresses.ipv4;
  let count = 0;
  for (const name of ['ct_tcp', 'ct_any', 'snat'] as const) {
    using table = openTable(nth(scene.topo.nodes), 'ipv4', name);
    const entries = await table.entries();
    count += entries.filter(({ key, translation }) =>
      [key.src, key.dst, name === 'snat' && translation.address].includes(address),
    ).length;
  }
  return count;
}
