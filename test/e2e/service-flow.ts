import assert from 'node:assert/strict';
import { decode } from '../../agent/abi/codec.ts';
import { layouts } from '../../agent/abi/generated.ts';
import { type FlowKey, KIND, reverseKey, type Table } from '../lib/tables.ts';
import type { Family } from '../lib/topology.ts';
import type { Tables } from './flow.ts';
import { BACKEND_PORTS, PATHS, type PathName, type ServedScene } from './service-scene.ts';
import { type Conversation, type Protocol, tcpConversation, udpConversation } from './talk.ts';

export type RecordName = 'svc' | 'out' | 'in' | 'forward' | 'reverse';

/** As which a pod meets itself. */
const LOOPBACK = { ipv4: '169.254.42.1', ipv6: 'fd73:656b:6973::1' };
const NUMBERS = { tcp: 6, udp: 17 };

/** Tables of both nodes, in one family. */
export interface BothTables {
  family: Family;
  here: Tables;
  there: Tables;
}

/** A live connection to a service, and the records that carry it. */
export interface ServiceFlow extends Conversation {
  path: PathName;
  protocol: Protocol;
  frontend: { address: string; port: number };
  localPort: number;
  lose(records: readonly RecordName[]): void;
  /** Those of the records that are not there. */
  missing(records: readonly RecordName[]): RecordName[];
  /** Fails unless every record is there and says what it said at first, its backend among it. */
  assertWhole(): void;
}

interface Slot {
  table: Table;
  key: FlowKey;
  layout: 'ct_entry' | 'nat_entry';
}

/** Opens a connection of a path and finds its records. */
export async function openServiceFlow(
  scene: ServedScene,
  tables: BothTables,
  path: PathName,
  protocol: Protocol,
  localPort: number,
): Promise<ServiceFlow> {
  const { family } = tables;
  const { client, backend, port } = PATHS[path];
  const frontend = { address: scene.frontendOf(PATHS[path], family), port };
  const open = protocol === 'tcp' ? tcpConversation : udpConversation;
  const tag = `${family}-${protocol}-${localPort}`;
  const target = { tag, host: frontend.address, port, localPort };
  const conversation = await open(scene.client(client), scene.server(backend), target);
  const slots = slotsOf(scene, tables, path, protocol, localPort);
  const own = ownFlow(slots, tables, path);
  const names = Object.keys(slots) as RecordName[];
  const there = (name: RecordName) =>
    slots[name]?.table.has(slots[name].key) ||
    (name === 'in' && protocol === 'udp' && !!own && own.table.has(own.key));
  const saidBy = (name: RecordName) => identityOf(family, slots[name]);
  const first = new Map(names.map((name) => [name, saidBy(name)]));
  for (const name of names) assert.ok(first.get(name), `${tag} has no record ${name}`);
  const missing = (records: readonly RecordName[]) => records.filter((name) => !there(name));
  return {
    ...conversation,
    ...{ path, protocol, frontend, localPort },
    lose(records) {
      for (const name of records) {
        const slot = slots[name];
        assert.ok(slot?.table.delete(slot.key), `${tag} has no record ${name} to lose`);
      }
    },
    missing,
    assertWhole() {
      assert.deepEqual(missing(names), []);
      for (const name of names) {
        const says = saidBy(name);
        if (says) assert.deepEqual(says, first.get(name), `what ${name} says`);
      }
    },
  };
}

function slotsOf(
  scene: ServedScene,
  { family, here, there }: BothTables,
  path: PathName,
  protocol: Protocol,
  sport: number,
): Partial<Record<RecordName, Slot>> {
  const { client, backend, port, forwarding } = PATHS[path];
  const ct = (tables: Tables, key: FlowKey): Slot => ({
    ...{ table: protocol === 'tcp' ? tables.tcp : tables.any, key, layout: 'ct_entry' },
  });
  const flow = {
    src: backend === 'pod' ? LOOPBACK[family] : scene.addressOf('client', client, family),
    dst: scene.addressOf('backend', backend, family),
    sport,
    protocol: NUMBERS[protocol],
  };
  const source = scene.addressOf('client', client, family);
  const dst = scene.frontendOf(PATHS[path], family);
  const svc = ct(here, { ...flow, src: source, dst, dport: port, kind: KIND.SVC });
  const far = backend === 'elsewhere' ? there : here;
  const opener = forwarding === 'dsr' ? there : here;
  const kind = backend === 'pod' ? KIND.IN : KIND.OUT;
  const keys = BACKEND_PORTS.map((dport) => ({ ...flow, dport, kind }));
  const known = keys.map((key) => ct(opener, key)).find(({ table, key }) => table.has(key));
  assert.ok(known, `no entry of a flow from port ${sport}`);
  const inward = { ...known.key, kind: KIND.IN };
  if (backend === 'pod') return { svc, in: known };
  const translation = here.snat.translation(known.key);
  if (!translation) return { svc, out: known, in: ct(far, inward) };
  const nat = (key: FlowKey): Slot => ({ table: here.snat, key, layout: 'nat_entry' });
  const { address, port: nport } = translation;
  return {
    ...{ svc, out: known, forward: nat(known.key) },
    reverse: nat(reverseKey(known.key, translation)),
    ...(backend !== 'world' && { in: ct(there, { ...inward, src: address, sport: nport }) }),
  };
}

/**
 * The flow that the backend's datagrams become once nobody knows what they answer. Between pods, and towards a node,
 * it carries the answers as well, and stands in for IN.
 */
function ownFlow(
  { in: inward }: Partial<Record<RecordName, Slot>>,
  { here, there }: BothTables,
  path: PathName,
): Slot | undefined {
  const { client, backend, forwarding } = PATHS[path];
  const stays = client === 'pod' || (backend === 'elsewhere' && forwarding !== 'dsr');
  if (!inward || !stays) return undefined;
  const { src, dst, sport, dport, protocol } = inward.key;
  const key = { src: dst, dst: src, sport: dport, dport: sport, protocol, kind: KIND.OUT };
  const { any } = backend === 'elsewhere' ? there : here;
  return { table: any, key, layout: 'ct_entry' };
}

/** What a record says of its flow that no packet changes. */
function identityOf(family: Family, slot: Slot | undefined): object | undefined {
  const value = slot?.table.value(slot.key);
  if (!slot || !value) return undefined;
  if (slot.layout === 'nat_entry') {
    const { addr, port, flags, rev_nat_index } = decode(layouts[family].nat_entry, value);
    return { addr, port, flags, rev_nat_index };
  }
  const entry = decode(layouts[family].ct_entry, value);
  const { flags, rev_nat_index, src_identity, backend_id, nat_addr, nat_port } = entry;
  return { flags, rev_nat_index, src_identity, backend_id, nat_addr, nat_port };
}
