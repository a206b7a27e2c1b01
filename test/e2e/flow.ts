import assert from 'node:assert/strict';
import { nth, type Scene } from '../lib/scene.ts';
import {
  type FlowKey,
  KIND,
  openTable,
  reverseKey,
  type Table,
  type Translation,
} from '../lib/tables.ts';
import type { Family, Node } from '../lib/topology.ts';

export type RecordName = 'forward' | 'reverse' | 'ct';

/** One masqueraded flow from a pod to the world, and its three records. */
export interface Flow {
  tag: string;
  key: FlowKey;
  /** What the records held when the flow was opened. */
  translation: Translation;
  lose(records: readonly RecordName[]): void;
  has(record: RecordName): boolean;
  /** An entry as if the world had opened the flow: made from a reply, it would leak the pod. */
  hasPhantom(): boolean;
  /** Fails unless all three records are there and hold the same port as at first. */
  assertComplete(): void;
}

export interface Tables extends Disposable {
  tcp: Table;
  any: Table;
  snat: Table;
}

/** The tables of the scene's first node, or of another. */
export function openTables({ topo }: Scene, family: Family, node: Node = nth(topo.nodes)): Tables {
  using stack = new DisposableStack();
  const open = (name: Parameters<typeof openTable>[2]) => stack.use(openTable(node, family, name));
  const tables = { tcp: open('ct_tcp'), any: open('ct_any'), snat: open('snat') };
  const kept = stack.move();
  return { ...tables, [Symbol.dispose]: () => kept.dispose() };
}

/** The key of a flow from the first pod to the world; `protocol` is an IANA number. */
export function keyToWorld(
  { topo }: Scene,
  family: Family,
  protocol: number,
  { sport, dport }: { sport: number; dport: number },
): FlowKey {
  const [src, dst] = [nth(topo.pods).addresses[family], nth(topo.worldAddresses)[family]];
  return { src, dst, sport, dport, protocol, kind: KIND.OUT };
}

/** Finds the records of a flow that has been opened. */
export function trackFlow(tables: Tables, tag: string, key: FlowKey): Flow {
  const ct = key.protocol === 6 ? tables.tcp : tables.any;
  const translation = tables.snat.translation(key);
  assert.ok(translation, `no forward entry for ${tag}`);
  const reverse = reverseKey(key, translation);
  const places: Record<RecordName, [Table, FlowKey]> = {
    forward: [tables.snat, key],
    reverse: [tables.snat, reverse],
    ct: [ct, key],
  };
  const phantom: FlowKey = {
    ...key,
    src: key.dst,
    dst: key.src,
    sport: key.dport,
    dport: key.sport,
    kind: KIND.IN,
  };
  const has = (record: RecordName) => places[record][0].has(places[record][1]);
  return {
    tag,
    key,
    translation,
    lose(records) {
      for (const record of records) {
        const [table, entry] = places[record];
        assert.ok(table.delete(entry), `the ${record} record of ${tag} was not there to lose`);
      }
    },
    has,
    hasPhantom: () => ct.has(phantom),
    assertComplete() {
      assert.deepEqual(tables.snat.translation(key), translation, 'the forward record');
      const back = tables.snat.translation(reverse);
      assert.deepEqual(back, { address: key.src, port: key.sport }, 'the reverse record');
      assert.ok(has('ct'), 'the CT record is missing');
      assert.ok(!this.hasPhantom(), 'there is a CT entry of an incoming flow');
    },
  };
}
