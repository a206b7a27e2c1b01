import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { encode } from '../../agent/abi/codec.ts';
import type { Layouts } from '../../agent/abi/generated.ts';
import { backend_table_size, layouts, service_flag } from '../../agent/abi/generated.ts';
import { createMap, openPinnedMap } from '../../agent/kernel/map.ts';
import { possibleCpus } from '../../agent/kernel/system.ts';
import { type Family, parseAddress } from '../../agent/lib/ip.ts';
import { skipReason } from '../kernel/sandbox.ts';
import { specOf } from '../lib/service-specs.ts';
import { flow, IN, OUT, type Pinned, pinDatapath, runSekisho, TCP, UDP } from './pinned.ts';

const { SERVICE_FROM_OUTSIDE, SERVICE_DSR, SERVICE_ANY_PORT, SERVICE_TWO_SCOPES } = service_flag;
const { SERVICE_SOURCE_RANGES } = service_flag;
const NOTE = /^sekisho: note: the agent does not answer: names are .* are left out\n$/;
const [CONNECTIONS, DROPS, BACKEND_CONNECTIONS] = [0, 1, 2];
const NO_BACKEND = 16;
const SVC = 4;

type Values = Record<string, number | Uint8Array>;

function bytesOf(family: Family, layout: keyof Layouts, values: Values): Uint8Array {
  return encode(layouts[family][layout] as never, values as never);
}

const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);

describe('services in the pinned maps', { skip: skipReason }, () => {
  let pinned: Pinned;

  before(async () => {
    pinned = await pinDatapath();
    fill();
  });
  after(() => pinned?.[Symbol.dispose]());

  function put(family: Family, name: string, key: Uint8Array, value: Uint8Array) {
    using map = openPinnedMap(join(pinned.bpffs, family, name));
    assert.ok(map, name);
    map.update(key, value);
  }

  function addService(address: string, port: number, proto: number, row: Values, scope = 0) {
    const { family, bytes: addr } = parseAddress(address);
    const key = bytesOf(family, 'service_key', { addr, port, proto, scope });
    put(family, 'services', key, bytesOf(family, 'service', row));
  }

  function addBackend(id: number, service_id: number, address: string, state: number, proto = TCP) {
    const { family, bytes: addr } = parseAddress(address);
    const value = bytesOf(family, 'backend', { addr, port: 8000, proto, state, service_id });
    put(family, 'backends', u32(id), value);
  }

  function addTable(service_id: number, scope: number, ids: readonly number[]) {
    const size = backend_table_size.BACKEND_TABLE_SIZE;
    const valueSize = 4 * size;
    using table = createMap({
      ...{ type: 'array', name: 'table', keySize: 4, valueSize, maxEntries: 1 },
    });
    const slots = Uint32Array.from({ length: size }, (_, i) => ids[i % ids.length] ?? 0);
    table.update(u32(0), new Uint8Array(slots.buffer));
    using outer = openPinnedMap(join(pinned.bpffs, 'ipv4', 'backend_tables'));
    outer?.updateFd(bytesOf('ipv4', 'backend_table_key', { service_id, scope }), table);
  }

  function count(id: number, kind: number, value: number, reason = 0) {
    const perCpu = new BigUint64Array(possibleCpus());
    perCpu[0] = BigInt(value - 1);
    perCpu[perCpu.length - 1] = (perCpu.at(-1) ?? 0n) + 1n;
    const key = bytesOf('ipv4', 'service_count_key', { id, kind, reason });
    put('ipv4', 'service_counts', key, new Uint8Array(perCpu.buffer));
  }

  /* web: a load balancer with a node port; dns: a cluster address over UDP; v6: one without. */
  function fill() {
    const flags = SERVICE_FROM_OUTSIDE | SERVICE_DSR | SERVICE_TWO_SCOPES | SERVICE_SOURCE_RANGES;
    const web = { id: 3, backends: 1, flags };
    addService('172.190.0.17', 80, TCP, { ...web, rev_nat_index: 24 });
    addService('172.190.0.17', 80, TCP, { ...web, rev_nat_index: 24, backends: 2 }, 1);
    addService('192.168.1.5', 30_001, TCP, { ...web, rev_nat_index: 25 });
    addService('192.168.1.5', 30_001, TCP, { ...web, rev_nat_index: 25, backends: 2 }, 1);
    addService('172.190.0.17', 0, 0, { ...web, flags: flags | SERVICE_ANY_PORT });
    addService('10.96.0.10', 53, UDP, { id: 2, backends: 0, rev_nat_index: 7 });
    addService('fd00:10::1', 443, TCP, { id: 5, backends: 0, rev_nat_index: 8 });
    addBackend(24, 3, '10.0.1.10', 0);
    addBackend(25, 3, '10.0.2.10', 0);
    addBackend(26, 3, '10.0.2.11', 1);
    addBackend(30, 2, '10.0.1.53', 3, UDP);
    addTable(3, 0, [24]);
    addTable(3, 1, [24, 25]);
    count(3, CONNECTIONS, 1000);
    count(3, DROPS, 4, NO_BACKEND);
    count(25, BACKEND_CONNECTIONS, 400);
    const range = { prefixlen: 32 + 8, addr: parseAddress('10.0.0.0').bytes };
    const key = bytesOf('ipv4', 'source_range_key', range);
    new DataView(key.buffer).setUint32(4, 3);
    put('ipv4', 'source_ranges', key, u32(1));
  }

  it('are listed by frontend without the daemon, which a line on stderr says', async () => {
    const { status, lines, stderr } = await pinned.run('service', 'list');
    assert.equal(status, 0, stderr);
    assert.match(stderr, NOTE);
    assert.deepEqual(lines, [
      'ID  NAME  TYPE  FRONTEND               REVNAT  BACKENDS        FORWARDING  STATE',
      ' 2  -     -     10.96.0.10:53/UDP           7  0/1             snat        no_backend',
      ' 3  -     -     172.190.0.17:80/TCP        24  1/3 (pods 2/3)  dsr         ready',
      ' 3  -     -     192.168.1.5:30001/TCP      25  1/3 (pods 2/3)  dsr         ready',
      ' 5  -     -     [fd00:10::1]:443/TCP        8  0/0             snat        no_backend',
    ]);
  });

  it('are listed as JSON by service', async () => {
    const { stdout } = await pinned.run('service', 'list', '-o', 'json');
    const services = JSON.parse(stdout);
    assert.deepEqual(
      services.map((service: { id: number; family: string }) => [service.id, service.family]),
      [
        [2, 'ipv4'],
        [3, 'ipv4'],
        [5, 'ipv6'],
      ],
    );
    assert.deepEqual(services[1].eligible, { external: 1, internal: 2 });
    assert.deepEqual(services[1].backends, {
      ...{ active: 2, terminating: 1, quarantined: 0, maintenance: 0 },
    });
    assert.equal(services[1].name, null);
  });

  it('can be looked at one by one, with shares, ranges and what was counted', async () => {
    const { stdout } = await pinned.run('service', 'get', '3', '-o', 'json');
    const { frontends, backends, sourceRanges, connections, drops } = JSON.parse(stdout);
    assert.equal(frontends.length, 2);
    assert.deepEqual(sourceRanges, ['10.0.0.0/8']);
    assert.deepEqual([connections, drops], [1000, { service_no_backend: 4 }]);
    const told = backends.map(({ id, state, share, connections }: Record<string, unknown>) => ({
      ...{ id, state, share, connections },
    }));
    const half = { external: 0, internal: (100 * 8190) / 16_381 };
    assert.deepEqual(told, [
      {
        id: 24,
        state: 'active',
        share: { external: 100, internal: 100 - half.internal },
        connections: 0,
      },
      { id: 25, state: 'active', share: half, connections: 400 },
      { id: 26, state: 'terminating', share: { external: 0, internal: 0 }, connections: 0 },
    ]);
  });

  it('have the names that the configuration and what was applied give them', async () => {
    const state = `state: { bpffs: ${pinned.bpffs}, runDir: ${pinned.runDir} }`;
    const web = '{ name: web, frontends: [{ address: 172.190.0.17, port: 80, protocol: TCP }] }';
    writeFileSync(`${pinned.config}.named`, `${state}\nservices: [${web}]\n`);
    const dns = { name: 'dns', frontends: [{ address: '10.96.0.10', port: 53, protocol: 'UDP' }] };
    const stored = { version: 1, services: [specOf(dns as never)] };
    writeFileSync(join(pinned.runDir, 'services.json'), JSON.stringify(stored));
    const named = async (...words: string[]) => {
      const { status, stdout, stderr } = await runSekisho([
        ...[...words, '-o', 'json'],
        ...['--config', `${pinned.config}.named`],
      ]);
      assert.equal(status, 0, stderr);
      return JSON.parse(stdout);
    };
    assert.deepEqual(
      (await named('service', 'list')).map(({ id, name, source }: Record<string, unknown>) => [
        ...[id, name, source],
      ]),
      [
        [2, 'dns', 'api'],
        [3, 'web', 'config'],
        [5, null, null],
      ],
    );
    assert.deepEqual((await named('service', 'get', 'web')).ids, [3]);
    assert.equal((await named('maglev', 'show', 'web')).length, 2);
    assert.deepEqual(
      (await named('backend', 'list', '--service', 'dns')).map(({ id }: { id: number }) => id),
      [30],
    );
    const port = '{ name: ports, type: NodePort, nodePort: 30001 }';
    writeFileSync(`${pinned.config}.named`, `${state}\nservices: [${port}]\n`);
    writeFileSync(join(pinned.runDir, 'services.json'), '{');
    assert.deepEqual(
      (await named('service', 'list')).map(({ name }: { name: string }) => name),
      [null, 'ports', null],
    );
    rmSync(join(pinned.runDir, 'services.json'));
  });

  it('that are not there, or only the daemon could name, are errors', async () => {
    const unknown = await pinned.run('service', 'get', '9');
    assert.deepEqual([unknown.status, unknown.stdout], [1, '']);
    assert.match(unknown.stderr, /\nsekisho: there is no service "9" \(.*\)\n$/);
    const named = await pinned.run('service', 'get', 'web');
    assert.equal(named.status, 1);
    assert.match(named.stderr, /\nsekisho: nobody knows which service is called "web" \(.*\)\n$/);
  });

  it('have their backends listed, by state and by service', async () => {
    const { lines } = await pinned.run('backend', 'list');
    assert.deepEqual(lines, [
      'ID  SERVICE  BACKEND             STATE        WEIGHT  CONNECTIONS',
      '30  #2       10.0.1.53:8000/UDP  maintenance  -                 0',
      '24  #3       10.0.1.10:8000/TCP  active       -                 0',
      '25  #3       10.0.2.10:8000/TCP  active       -               400',
      '26  #3       10.0.2.11:8000/TCP  terminating  -                 0',
    ]);
    const ids = async (...words: string[]) => {
      const { stdout } = await pinned.run('backend', 'list', '-o', 'json', ...words);
      return JSON.parse(stdout).map(({ id }: { id: number }) => id);
    };
    assert.deepEqual(await ids('--service', '3', '--state', 'active'), [24, 25]);
    assert.deepEqual(await ids('--state', 'quarantined'), []);
    assert.equal((await pinned.run('backend', 'list', '--state', 'dead')).status, 2);
  });

  it('have their tables shown, of the network and of pods', async () => {
    const { lines } = await pinned.run('maglev', 'show', '3');
    assert.deepEqual(lines, [
      'service 3, ipv4 TCP, maglev, 16381 slots for the network',
      'ID  BACKEND             STATE        WEIGHT  SLOTS  SHARE',
      '24  10.0.1.10:8000/TCP  active       -       16381  100.00%',
      '25  10.0.2.10:8000/TCP  active       -           0  0.00%',
      '26  10.0.2.11:8000/TCP  terminating  -           0  0.00%',
      'service 3, ipv4 TCP, maglev, 16381 slots for pods',
      'ID  BACKEND             STATE        WEIGHT  SLOTS  SHARE',
      '24  10.0.1.10:8000/TCP  active       -        8191  50.00%',
      '25  10.0.2.10:8000/TCP  active       -        8190  50.00%',
      '26  10.0.2.11:8000/TCP  terminating  -           0  0.00%',
    ]);
    const { stdout } = await pinned.run('maglev', 'show', '3', '-o', 'json');
    const [external, internal] = JSON.parse(stdout);
    assert.deepEqual([external.scope, internal.scope], ['external', 'internal']);
    assert.deepEqual(internal.table.slice(0, 3), [24, 25, 24]);
    assert.match((await pinned.run('maglev', 'show', '2')).stdout, /^service 2 has no table: /);
  });

  it('are counted in the status', async () => {
    const { stdout } = await pinned.run('status', '-o', 'json');
    const { services } = JSON.parse(stdout);
    assert.deepEqual([services.total, services.ready, services.frontends], [3, 1, 4]);
    assert.match(
      (await pinned.run('status')).stdout,
      /^SERVICES\n {2}3, 2 without backend; backends: 2 active, 1 terminating, 1 maintenance\n/m,
    );
  });

  /* The reference's trace C: both nodes of a connection under direct server return. */
  it('have their connections listed and counted, with the published flags', async () => {
    const expires = pinned.now() + 600;
    const closed = { expires, tx_flags_seen: 0x1b, seen: 3 };
    const svc = flow(TCP, SVC, '172.191.0.1', 53_438, '172.190.0.17', 80);
    const out = flow(TCP, OUT, '172.191.0.1', 53_438, '10.64.0.39', 8000);
    const frontend = { nat_addr: parseAddress('172.190.0.17').bytes, nat_port: 80 };
    const ids = { rev_nat_index: 24, backend_id: 24 };
    pinned.addConntrack('ct_tcp', svc, { ...closed, ...ids, flags: 0x13 });
    const served = { ...closed, ...frontend, src_identity: 2 };
    pinned.addConntrack('ct_tcp', out, { ...served, flags: 0x93 });
    pinned.addConntrack('ct_tcp', { ...out, kind: IN }, { ...served, flags: 0x413 });
    const times = `expires=${expires} Packets=0 Bytes=0 RxFlagsSeen=0x00 LastRxReport=0 TxFlagsSeen=0x1b LastTxReport=0`;
    const to = '172.191.0.1:53438 -> 10.64.0.39:8000';
    assert.deepEqual((await pinned.run('ct', 'list', '--kind', 'svc')).lines, [
      `TCP SVC 172.191.0.1:53438 -> 172.190.0.17:80 ${times} Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ] RevNAT=24 SourceSecurityID=0 BackendID=24`,
    ]);
    assert.deepEqual((await pinned.run('ct', 'list', '--dst', '10.64.0.39')).lines.sort(), [
      `TCP IN ${to} ${times} Flags=0x0413 [ RxClosing TxClosing SeenNonSyn FromTunnel ] RevNAT=0 SourceSecurityID=2 BackendID=0`,
      `TCP OUT ${to} ${times} Flags=0x0093 [ RxClosing TxClosing SeenNonSyn DSRInternal ] RevNAT=0 SourceSecurityID=2 BackendID=0`,
    ]);
    const { stdout } = await pinned.run('ct', 'list', '-o', 'json', '--kind', 'in');
    assert.deepEqual(JSON.parse(stdout)[0].nat, { address: '172.190.0.17', port: 80 });
    assert.match((await pinned.run('ct', 'count')).stdout, /^ipv4 +TCP +SVC +closing +1$/m);
  });

  /* Trace D: a node port, its backend on another node. */
  it('have the frontend of their NAT entries in JSON', async () => {
    const addr = parseAddress('192.168.1.5').bytes;
    const forward = flow(TCP, OUT, '203.0.113.10', 30_000, '10.0.2.15', 8080);
    pinned.addNat(forward, { addr, port: 47_113, rev_nat_index: 7, expires: pinned.now() + 60 });
    const { stdout } = await pinned.run('nat', 'list', '-o', 'json');
    const [entry] = JSON.parse(stdout);
    assert.deepEqual([entry.revNat, entry.to], [7, { address: '192.168.1.5', port: 47_113 }]);
  });

  it('have names, types and weights where the daemon answers, and what it rejected', async () => {
    const backends = [{ id: 24, weight: 2, state: 'active' }];
    const common = { frontends: [], sourceRanges: [], problems: [], source: 'config' };
    const web = { name: 'web', type: 'LoadBalancer', ids: [3], state: 'applied', backends };
    const bad = { name: 'bad', type: 'ClusterIP', ids: [], state: 'rejected', backends: [] };
    const problems = ['10.0.1.7 is inside a pod range'];
    const services = [
      { ...common, ...web },
      { ...common, ...bad, problems, forwarding: 'snat' },
    ];
    const server = createServer((_, response) => response.end(JSON.stringify({ services })));
    await new Promise<void>((done) => server.listen(join(pinned.runDir, 'agent.sock'), done));
    try {
      const { lines, stderr } = await pinned.run('service', 'list');
      assert.equal(stderr, '');
      assert.match(lines[2] ?? '', /^3 +web +LoadBalancer +172\.190\.0\.17:80\/TCP /);
      assert.match(lines.at(-1) ?? '', /^- +bad .* rejected: 10\.0\.1\.7 is inside a pod range$/);
      const { stdout } = await pinned.run('backend', 'list', '--service', 'web', '-o', 'json');
      const [first] = JSON.parse(stdout);
      assert.deepEqual([first.service, first.weight], ['web', 2]);
      assert.equal((await pinned.run('service', 'get', 'bad')).status, 0);
    } finally {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  });
});
