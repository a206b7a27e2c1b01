import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sekishoJson, sekishoOn } from '../lib/daemon.ts';
import { type Peer, startPeer } from '../lib/peer.ts';
import { bareScene, nth, type Scene } from '../lib/scene.ts';
import { KIND, openTable } from '../lib/tables.ts';
import { type Addresses, FAMILIES, type Family, type Node } from '../lib/topology.ts';
import { startNodes } from './two-nodes.ts';

const CLUSTER: Addresses = { ipv4: '10.68.174.146', ipv6: 'fd00:68::146' };
const BALANCER: Addresses = { ipv4: '172.190.0.17', ipv6: '2001:db8:190::17' };
const NODE_PORT = 30_001;
/** SourceSecurityID of the world. */
const WORLD = 2;
const CLOSED = '0x0013 [ RxClosing TxClosing SeenNonSyn ]';

/** A connection of the published reference. */
interface Trace {
  name: string;
  client: Peer;
  server: Peer;
  target: { tag: string; host: string; port: number; localPort: number };
  /** What the tables hold once it is over, as `ct list` and `nat list` print it. */
  expected(): Lines;
}

/** Of the client's node, or the one in the middle (`here`), and of the backend's (`there`). */
interface Lines {
  here: string[];
  there: string[];
  nat: string[];
}

/**
 * Keys, flags and fields are the published ones. What differs on purpose: a key is in natural orientation, source
 * first, where the published bytes begin with the destination (one tuple for all tables); an endpoint has its identity
 * on its own node only, and elsewhere SourceSecurityID is 0; there is no IfIndex.
 */
test('the published traces of connections, with real traffic', async (t) => {
  await using scene = await bareScene({ nodes: 2, pods: 2 });
  const { topo } = scene;
  const [here, there] = [nth(topo.nodes), nth(topo.nodes, 1)];
  const services = FAMILIES.flatMap((family) => servicesOf(there, family));
  const [first, second] = await startNodes(scene, () => ({ services }));
  await topo.world.ip(
    `route add ${BALANCER.ipv4} via ${here.addresses.ipv4}`,
    `route add ${BALANCER.ipv6} via ${here.addresses.ipv6} dev eth0`,
  );
  const traces = await prepareTraces(scene);
  for (const trace of traces) await connect(trace);
  const [ct, nat, ctThere, natThere] = await Promise.all([
    linesOf(here, first.configFile, 'ct'),
    linesOf(here, first.configFile, 'nat'),
    linesOf(there, second.configFile, 'ct'),
    linesOf(there, second.configFile, 'nat'),
  ]);

  for (const { name, expected } of traces) {
    await t.test(name, () => {
      const lines = expected();
      assertContains(ct, lines.here);
      assertContains(ctThere, lines.there);
      assertContains(nat, lines.nat);
    });
  }
  await t.test('the tables hold nothing else', () => {
    const all = traces.map(({ expected }) => expected());
    assert.deepEqual(ct, all.flatMap(({ here }) => here).sort());
    assert.deepEqual(ctThere, all.flatMap(({ there }) => there).sort());
    assert.deepEqual(nat, all.flatMap(({ nat }) => nat).sort());
    assert.deepEqual(natThere, []);
  });
});

function servicesOf({ pods }: Node, family: Family) {
  const address = nth(pods).addresses[family];
  const [cluster, balancer] = [CLUSTER[family], BALANCER[family]];
  return [
    {
      name: `b-${family}`,
      frontends: [{ address: cluster, port: 80 }],
      backends: [{ address, port: 8000 }],
    },
    {
      name: `c-${family}`,
      type: 'LoadBalancer',
      frontends: [{ address: balancer, port: 80 }],
      backends: [{ address, port: 8000 }],
      forwarding: 'dsr',
    },
    {
      name: `d-${family}`,
      type: 'NodePort',
      nodePort: NODE_PORT,
      backends: [{ address, port: 8080 }],
    },
  ];
}

/** Starts whoever answers, and finds the numbers of pods, frontends and backends. */
async function prepareTraces(scene: Scene): Promise<Trace[]> {
  const { topo } = scene;
  const servers: Peer[] = [];
  for (const { ns, addresses } of nth(topo.nodes, 1).pods) {
    const server = topo.use(await startPeer(ns));
    servers.push(server);
    for (const host of Object.values(addresses)) {
      for (const port of [8000, 8080]) await server.listen({ host, port });
    }
  }
  const [endpoints, listed, backends] = await Promise.all([
    sekishoJson<{ id: number; addresses: string[] }[]>(topo, 'endpoint', 'list'),
    sekishoJson<{ frontends: Frontend[] }[]>(topo, 'service', 'list'),
    sekishoJson<{ id: number; service: string }[]>(topo, 'backend', 'list'),
  ]);
  const frontends = listed.flatMap(({ frontends }) => frontends);
  const numbers: Numbers = {
    identity: (pod) => find(endpoints, ({ addresses }) => addresses.includes(pod)).id,
    revNat: (host, port) =>
      find(frontends, (one) => one.address === host && one.port === port).revNat,
    backendId: (name) => find(backends, ({ service }) => service === name).id,
  };
  return FAMILIES.flatMap((family) => tracesOf(scene, servers, numbers, family));
}

interface Frontend {
  address: string;
  port: number;
  revNat: number;
}

/** What the daemon has given to pods, frontends and backends. */
interface Numbers {
  identity(pod: string): number;
  revNat(host: string, port: number): number;
  backendId(service: string): number;
}

function find<T>(list: readonly T[], wanted: (item: T) => boolean): T {
  return nth(list.filter(wanted));
}

function tracesOf(scene: Scene, servers: Peer[], numbers: Numbers, family: Family): Trace[] {
  const { topo, world } = scene;
  const [here, there] = [nth(topo.nodes), nth(topo.nodes, 1)];
  const name = (text: string) => `${text} (${family})`;
  const trace = (client: Peer, server: Peer, host: string, port: number, localPort: number) => ({
    client,
    server,
    target: { tag: `${family}-${localPort}`, host, port, localPort },
  });
  const [p, q] = [nth(here.pods, 1).addresses[family], nth(there.pods, 1).addresses[family]];
  const pod = nth(here.pods).addresses[family];
  const backend = nth(there.pods).addresses[family];
  const [client, node] = [topo.gateway[family], here.addresses[family]];
  const [cluster, balancer] = [CLUSTER[family], BALANCER[family]];
  return [
    {
      name: name('A: a pod to a pod'),
      ...trace(nth(scene.pods, 1), nth(servers, 1), q, 8000, 54_260),
      expected() {
        const flow = `${end(p, 54_260)} -> ${end(q, 8000)}`;
        const identity = numbers.identity(p);
        return {
          here: [ct(`TCP OUT ${flow}`, { identity }), companion('OUT', p, q, { identity })],
          there: [ct(`TCP IN ${flow}`), companion('IN', p, q)],
          nat: [],
        };
      },
    },
    {
      name: name('B: a pod to a cluster address'),
      ...trace(nth(scene.pods), nth(servers), cluster, 80, 59_530),
      expected() {
        const flow = `${end(pod, 59_530)} -> ${end(backend, 8000)}`;
        const identity = numbers.identity(pod);
        const revNat = numbers.revNat(cluster, 80);
        const backendId = numbers.backendId(`b-${family}`);
        return {
          here: [
            svc(`${end(pod, 59_530)} -> ${end(cluster, 80)}`, { revNat, backendId }),
            ct(`TCP OUT ${flow}`, { revNat, identity }),
            companion('OUT', pod, backend, { revNat, identity }),
          ],
          there: [ct(`TCP IN ${flow}`), companion('IN', pod, backend)],
          nat: [],
        };
      },
    },
    {
      name: name('C: the world to a load balancer, with direct server return'),
      ...trace(world, nth(servers), balancer, 80, 53_438),
      expected() {
        const flow = `${end(client, 53_438)} -> ${end(backend, 8000)}`;
        const revNat = numbers.revNat(balancer, 80);
        const backendId = numbers.backendId(`c-${family}`);
        const out = '0x0093 [ RxClosing TxClosing SeenNonSyn DSRInternal ]';
        const inward = '0x0413 [ RxClosing TxClosing SeenNonSyn FromTunnel ]';
        return {
          here: [svc(`${end(client, 53_438)} -> ${end(balancer, 80)}`, { revNat, backendId })],
          there: [
            ct(`TCP OUT ${flow}`, { flags: out, identity: WORLD }),
            ct(`TCP IN ${flow}`, { flags: inward, identity: WORLD }),
            companion('IN', client, backend, { identity: WORLD }),
          ],
          nat: [],
        };
      },
    },
    {
      name: name('D: the world to a node port, with SNAT'),
      ...trace(world, nth(servers), node, NODE_PORT, 30_000),
      expected() {
        const flow = `${end(client, 30_000)} -> ${end(backend, 8080)}`;
        const revNat = numbers.revNat(node, NODE_PORT);
        const backendId = numbers.backendId(`d-${family}`);
        const flags = '0x0033 [ RxClosing TxClosing SeenNonSyn NodePort ]';
        const port = translatedPort(here, family, client, backend);
        assert.ok(port >= 32_768, `translated to port ${port}`);
        const [from, to] = [end(node, port), end(backend, 8080)];
        return {
          here: [
            svc(`${end(client, 30_000)} -> ${end(node, NODE_PORT)}`, { revNat, backendId }),
            ct(`TCP OUT ${flow}`, { flags, revNat, identity: WORLD }),
          ],
          there: [ct(`TCP IN ${from} -> ${to}`), companion('IN', node, backend)],
          nat: [
            `TCP OUT ${flow} XLATE_SRC ${from} NeedsCT=0`,
            `TCP IN ${to} -> ${from} XLATE_DST ${end(client, 30_000)} NeedsCT=0`,
          ],
        };
      },
    },
  ];
}

function translatedPort(node: Node, family: Family, src: string, dst: string): number {
  using table = openTable(node, family, 'snat');
  const key = { src, dst, sport: 30_000, dport: 8080, protocol: 6, kind: KIND.OUT };
  return table.translation(key)?.port ?? 0;
}

/** SYN, ACK, PSH and FIN. */
const WHOLE = '0x1b';

interface Fields {
  flags?: string;
  revNat?: number;
  identity?: number;
  backendId?: number;
}

/** The line of an entry that has seen a whole connection from both sides. */
function ct(flow: string, { flags = CLOSED, ...fields }: Fields = {}): string {
  return line(`${flow}`, WHOLE, WHOLE, flags, fields);
}

/** Of one that sees the client's side only. */
function svc(flow: string, fields: Fields): string {
  return line(`TCP SVC ${flow}`, '0x00', WHOLE, CLOSED, fields);
}

function companion(kind: 'OUT' | 'IN', from: string, to: string, fields: Fields = {}): string {
  const icmp = from.includes(':') ? 'ICMPv6' : 'ICMP';
  const flow = `${icmp} ${kind} ${end(from, 0)} -> ${end(to, 0)} related`;
  return line(flow, '0x00', '0x00', '0x0000 [ ]', fields);
}

function line(flow: string, rx: string, tx: string, flags: string, fields: Fields): string {
  const { revNat = 0, identity = 0, backendId = 0 } = fields;
  return (
    `${flow} Packets=0 Bytes=0 RxFlagsSeen=${rx} TxFlagsSeen=${tx} Flags=${flags}` +
    ` RevNAT=${revNat} SourceSecurityID=${identity} BackendID=${backendId}`
  );
}

const end = (address: string, port: number) =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

/** A whole connection. */
async function connect({ client, server, target }: Trace): Promise<void> {
  const { tag } = target;
  await client.connect(target);
  await client.exchange({ tag });
  await client.close({ tag });
  assert.equal(await server.ended({ tag }), 'closed by the other side');
}

/** What a listing prints, without its times. */
async function linesOf(node: Node, file: string, table: 'ct' | 'nat'): Promise<string[]> {
  const { stdout, stderr, code } = await sekishoOn(node, file, table, 'list');
  assert.equal(code, 0, stderr);
  const times = / (expires|LastRxReport|LastTxReport)=\d+| Created=\d+sec ago/g;
  const lines = stdout.split('\n').filter((line) => line !== '');
  return lines.map((line) => line.replaceAll(times, '')).sort();
}

function assertContains(lines: readonly string[], wanted: readonly string[]): void {
  for (const line of wanted)
    assert.ok(lines.includes(line), `${line}\nis not in\n${lines.join('\n')}`);
}
