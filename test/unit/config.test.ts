import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { checkConfig, loadConfig } from '../../agent/config/load.ts';
import { loadConfigAside } from '../../agent/config/load-aside.ts';
import type { Config } from '../../agent/config/schema.ts';
import { ConfigError } from '../../agent/lib/errors.ts';

const GIB = 2 ** 30;

function parse(text: string): Config {
  const { config, errors } = checkConfig(text, 'c.yaml', 16 * GIB);
  assert.deepEqual(
    errors.map((error) => error.message),
    [],
  );
  assert.ok(config);
  return config;
}

function problems(text: string): string[] {
  return checkConfig(text, 'c.yaml', 16 * GIB).errors.map((error) => error.message);
}

/** The example of the contract. */
const EXAMPLE = `
node:
  name: node-a                     # default: hostname
  devices: [eth0]                  # north-south devices; default: devices of the default routes
  podCIDRs: [10.0.1.0/24, "fd00:1::/64"]   # never leave this node bare
  nodePortAddresses: []            # default: every address on those devices
cluster:                           # other nodes, for delivery and DSR; a later source may fill this in
  nodes: [{ name: node-b, address: 192.168.1.6, podCIDRs: [10.0.2.0/24] }]
masquerade:
  enabled: true
  exclude: [10.0.0.0/8]            # destinations that are never masqueraded (native routing)
  addresses: []                    # egress addresses; default: the device's first global one of each family
  ports: { min: 32768, max: 65535 }
  restore: true                    # false only to see what it is for
datapath: { routing: fast, attach: auto }   # fast | stack · auto | tcx | tc
endpoints:
  - { name: web-1, interface: lxc-web-1, addresses: [10.0.1.10, "fd00:1::10"] }
services:
  - name: web
    type: LoadBalancer             # ClusterIP | NodePort | LoadBalancer
    frontends: [{ address: 172.190.0.17, port: 80, protocol: TCP }]
    nodePort: 30001                # with NodePort and LoadBalancer
    backends: [{ address: 10.0.1.10, port: 8000, weight: 1, state: active }]   # active|terminating|quarantined|maintenance
    algorithm: maglev              # maglev | random
    externalTrafficPolicy: Cluster # Cluster | Local
    internalTrafficPolicy: Cluster
    sessionAffinity: { timeout: 3h }
    forwarding: snat               # snat | dsr
    sourceRanges: []
conntrack:
  timeouts: { tcp: 2h13m20s, tcpSyn: 60s, tcpClose: 10s, any: 60s, serviceTcp: 2h13m20s, serviceAny: 60s, serviceClose: 60s }
  accounting: false                # per-entry packets and bytes
gc: { interval: auto, min: 10s, max: 12h }
maps: { memoryRatio: 0.0025, maxMemoryRatio: 0.02, ctTcp: auto, ctAny: auto, nat: auto }
metrics: { listen: 127.0.0.1:9964 }
log: { level: info }
state: { bpffs: /sys/fs/bpf/sekisho, runDir: /run/sekisho }
`;

describe('a valid configuration', () => {
  it('is the empty file', () => {
    const config = parse('');
    assert.ok(config.node.name.length > 0);
    assert.deepEqual(config.masquerade.ports, { min: 32768, max: 65535 });
    assert.equal(config.masquerade.restore, true);
    assert.deepEqual(config.conntrack.timeouts, {
      tcp: 8000,
      tcpSyn: 60,
      tcpClose: 10,
      any: 60,
      serviceTcp: 8000,
      serviceAny: 60,
      serviceClose: 60,
    });
    assert.deepEqual(config.gc, { interval: 'auto', min: 10, max: 43_200 });
    assert.equal(config.state.bpffs, '/sys/fs/bpf/sekisho');
  });

  it('is the example of the contract, and everything optional in it is a default', () => {
    const config = parse(EXAMPLE);
    assert.equal(config.services[0]?.sessionAffinity?.timeout, 10_800);
    const { masquerade, datapath, conntrack, gc, maps, metrics, log, state } = parse('');
    const written = parse(EXAMPLE.replace('exclude: [10.0.0.0/8]', 'exclude: []'));
    const defaults = { masquerade, datapath, conntrack, gc, maps, metrics, log, state };
    assert.deepEqual({ ...written, ...defaults }, written);
  });

  it('may have sections without content', () => {
    assert.deepEqual(parse('gc:\nmasquerade:\n  ports:\nendpoints:\n').gc, parse('').gc);
  });
});

describe('an unknown key', () => {
  it('is named with its place, its path and the nearest known key', () => {
    assert.deepEqual(problems('masquerade:\n  ports:\n    mim: 40000\n'), [
      'c.yaml:3:5: masquerade.ports.mim: unknown key "mim"; did you mean "masquerade.ports.min"?',
    ]);
  });

  it('that belongs elsewhere leads there', () => {
    assert.deepEqual(problems('ctTcp: 2048\n'), [
      'c.yaml:1:1: ctTcp: unknown key "ctTcp"; did you mean "maps.ctTcp"?',
    ]);
  });

  it('that is nearly right is not one of its name elsewhere', () => {
    assert.match(problems('conntrack: { timeout: {} }\n')[0] ?? '', /"conntrack\.timeouts"\?$/);
    assert.match(problems('masquerade: { port: 1 }\n')[0] ?? '', /"masquerade\.ports"\?$/);
  });

  it('is found in lists and without a value', () => {
    const text = 'endpoints:\n  - { name: a, interface: b, addresses: [10.0.0.1], adresses: }\n';
    assert.match(problems(text)[0] ?? '', /^c\.yaml:2:53: endpoints\[0\]\.adresses: unknown key/);
  });
});

describe('a document that cannot be made data', () => {
  it('is told with the place of the alias', () => {
    assert.match(problems('log: {}\nnode: *b\n')[0] ?? '', /^c\.yaml:2:7: unresolved alias/);
  });

  it('is refused for aliases without end', () => {
    const rows = ['a: &a [x, x, x, x, x, x, x, x, x]'];
    for (const [from, to] of ['ab', 'bc', 'cd'].map((pair) => pair.split(''))) {
      rows.push(`${to}: &${to} [${Array(9).fill(`*${from}`).join(', ')}]`);
    }
    assert.match(problems(`${rows.join('\n')}\n`)[0] ?? '', /^c\.yaml:1:1: excessive alias count/);
  });

  it('is told to be one of several', () => {
    assert.deepEqual(problems('log: {}\n---\ngc: {}\n'), [
      'c.yaml:2:1: expected one document, got several',
    ]);
  });
});

describe('a wrong value', () => {
  const cases: [string, string][] = [
    [
      'conntrack: { timeouts: { tcp: 60 } }',
      'c.yaml:1:31: conntrack.timeouts.tcp: expected a duration from 1s to 8760h, got 60; example: tcp: 10s',
    ],
    [
      'masquerade:\n  ports: { max: 65536 }',
      'c.yaml:2:17: masquerade.ports.max: expected a whole number from 1 to 65535, got 65536; example: max: 65535',
    ],
    [
      'masquerade: { exclude: [10.0.0.0/33] }',
      'c.yaml:1:25: masquerade.exclude[0]: expected a prefix, got "10.0.0.0/33"; example: 10.0.0.0/8',
    ],
    [
      'datapath: { routing: slow }',
      'c.yaml:1:22: datapath.routing: expected fast or stack, got "slow"; example: routing: fast',
    ],
    [
      'gc: { interval: never }',
      'c.yaml:1:17: gc.interval: expected "auto" or a duration from 1s to 8760h, got "never"; example: interval: 5m',
    ],
    [
      'maps: { ctTcp: 1000 }',
      'c.yaml:1:16: maps.ctTcp: expected a whole number from 1024 to 16777216, got 1000; example: ctTcp: 524288',
    ],
    [
      'metrics: { listen: 9964 }',
      'c.yaml:1:20: metrics.listen: expected an address and a port, got 9964; example: listen: 127.0.0.1:9964',
    ],
    ['gc: 5', 'c.yaml:1:5: gc: expected a mapping of keys to values, got 5'],
    ['endpoints: {}', 'c.yaml:1:12: endpoints: expected a list, got a mapping'],
    ['- a', 'c.yaml:1:1: expected a mapping of keys to values, got a list'],
  ];
  for (const [text, expected] of cases) {
    it(`is explained: ${text.split('\n').join(' ')}`, () => {
      assert.deepEqual(problems(text), [expected]);
    });
  }

  it('is missing: the entry that lacks it is named', () => {
    const text = 'endpoints:\n  - name: web-1\n    addresses: [10.0.1.10]\n';
    assert.deepEqual(problems(text), [
      'c.yaml:2:5: endpoints[0].interface: missing; expected an interface name of 1 to 15 characters; example: interface: lxc-web-1',
    ]);
  });

  it('is an interface name longer than the kernel knows', () => {
    const text = 'endpoints: [{ name: a, interface: a234567890123456, addresses: [10.0.0.1] }]';
    assert.match(problems(text)[0] ?? '', /endpoints\[0\]\.interface: expected an interface name/);
  });

  it('is an address that no endpoint can own', () => {
    for (const bad of ['0.0.0.0', '127.0.0.1', '224.0.0.1', '"::"', '"::1"', '"ff02::1"']) {
      const text = `endpoints: [{ name: a, interface: b, addresses: [${bad}] }]`;
      assert.match(problems(text)[0] ?? '', /expected a unicast IP address/, bad);
    }
  });

  it('does not hide the next one', () => {
    const text = 'log: { level: loud }\ngc: { min: 0s }\nnode: { devices: eth0 }\n';
    assert.deepEqual(
      checkConfig(text, 'c.yaml').errors.map(({ line, path }) => [line, path]),
      [
        [1, 'log.level'],
        [2, 'gc.min'],
        [3, 'node.devices'],
      ],
    );
  });
});

describe('YAML that cannot be read', () => {
  it('is reported with line and column', () => {
    assert.match(problems('gc:\n\tmin: 10s\n')[0] ?? '', /^c\.yaml:2:1: tabs are not allowed/);
    assert.match(problems('log: {}\nlog: {}\n')[0] ?? '', /^c\.yaml:2:1: map keys must be unique/);
    assert.match(problems('a: [1, 2\n')[0] ?? '', /^c\.yaml:2:1: /);
  });
});

describe('values that contradict each other', () => {
  const endpoint = (name: string, addresses: string) =>
    `  - { name: ${name}, interface: lxc, addresses: [${addresses}] }\n`;

  it('are ports in the wrong order', () => {
    assert.deepEqual(problems('masquerade: { ports: { min: 50000, max: 40000 } }'), [
      'c.yaml:1:29: masquerade.ports.min: expected at most masquerade.ports.max (40000), got 50000',
    ]);
  });

  it('are bounds of the collection interval in the wrong order', () => {
    assert.deepEqual(problems('gc: { min: 1h, max: 30m }'), [
      'c.yaml:1:12: gc.min: expected at most gc.max (30m), got 1h',
    ]);
  });

  it('are endpoints with the same name', () => {
    const text = `endpoints:\n${endpoint('a', '10.0.0.1')}${endpoint('a', '10.0.0.2')}`;
    assert.deepEqual(problems(text), [
      'c.yaml:3:13: endpoints[1].name: a stands at endpoints[0].name already',
    ]);
  });

  it('are endpoints with the same address, however it is written', () => {
    const text = `endpoints:\n${endpoint('a', '"fd00::1"')}${endpoint('b', '"fd00:0::1"')}`;
    assert.deepEqual(problems(text), [
      'c.yaml:3:44: endpoints[1].addresses[0]: fd00::1 stands at endpoints[0].addresses[0] already',
    ]);
  });

  it('are two nodes with one pod range', () => {
    const node = (name: string, address: string) =>
      `    - { name: ${name}, address: ${address}, podCIDRs: [10.0.2.7/24] }\n`;
    const text = `cluster:\n  nodes:\n${node('b', '192.0.2.1')}${node('c', '192.0.2.2')}`;
    assert.deepEqual(problems(text), [
      'c.yaml:4:48: cluster.nodes[1].podCIDRs: 10.0.2.0/24 stands at cluster.nodes[0].podCIDRs already',
    ]);
  });

  it('are a NAT table larger than both connection tables together', () => {
    assert.deepEqual(problems('maps: { ctTcp: 1024, ctAny: 1024, nat: 2049 }'), [
      'c.yaml:1:40: maps.nat: expected at most ctTcp + ctAny (2048), got 2049',
    ]);
    parse('maps: { ctTcp: 1024, ctAny: 1024, nat: 2048 }');
  });

  it('are a node port on a ClusterIP service, and two services on one frontend', () => {
    const service = (name: string) =>
      `  - { name: ${name}, frontends: [{ address: 10.9.9.9, port: 80 }], nodePort: 30001 }\n`;
    const found = problems(`services:\n${service('a')}${service('b')}`);
    assert.equal(found.filter((line) => line.includes('has no node port')).length, 2);
    assert.ok(found.some((line) => line.includes('services[0].frontends[0] already')));
  });

  it('are a NodePort service without one', () => {
    const text = 'services:\n  - { name: a, type: NodePort }\n';
    const problem = 'services[0].nodePort: missing; a NodePort service needs one';
    assert.deepEqual(problems(text), [`c.yaml:2:5: ${problem}`]);
  });
});

describe('loading a file', () => {
  it('fails when the named file is not there', () => {
    assert.throws(() => loadConfig('/nonexistent/c.yaml'), {
      name: 'ConfigError',
      message: '/nonexistent/c.yaml: cannot read it: no such file',
    });
  });

  it('throws the first problem and says how many follow', (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'sekisho-config-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const file = join(directory, 'config.yaml');
    writeFileSync(file, 'log: { level: loud }\ngc: { min: 0s }\n');
    assert.throws(
      () => loadConfig(file),
      (error: unknown) => {
        assert.ok(error instanceof ConfigError);
        assert.deepEqual([error.line, error.column, error.path], [1, 15, 'log.level']);
        assert.equal(error.hint, `1 more: sekisho config check ${file}`);
        return true;
      },
    );
  });
});

describe('a file that is read beside other work', () => {
  const comment = `# ${'x'.repeat(64 * 1024)}\n`;

  for (const [size, before] of [
    ['small', ''],
    ['large', comment],
  ] as const) {
    it(`says the same as any other when it is ${size}, and as much about mistakes`, async (t) => {
      const directory = mkdtempSync(join(tmpdir(), 'sekisho-config-'));
      t.after(() => rmSync(directory, { recursive: true }));
      const file = join(directory, 'config.yaml');
      writeFileSync(file, `${before}gc: { min: 20s }\n`);
      assert.deepEqual(await loadConfigAside(file), loadConfig(file));
      writeFileSync(file, `${before}gc: { min: 0s }\nlog: { level: loud }\n`);
      let known: unknown;
      try {
        loadConfig(file);
      } catch (error) {
        known = error;
      }
      assert.ok(known instanceof ConfigError);
      const { code, message, hint } = known;
      await assert.rejects(loadConfigAside(file), { code, message, hint });
    });
  }

  it('is missing as any other', async () => {
    await assert.rejects(loadConfigAside('/nonexistent/c.yaml'), { code: 'E_CONFIG' });
  });
});

describe('a large file of JSON', () => {
  const endpoints = Array.from({ length: 5000 }, (_, i) => ({
    name: `pod-${i}`,
    interface: `lxc${i}`,
    addresses: [`10.0.${i >> 8}.${i & 255}`, `fd00:1::${i.toString(16)}`],
  }));

  it('is read like any other, and says where it is wrong', () => {
    const text = JSON.stringify({ endpoints, gc: { min: '20s' } });
    assert.ok(text.length > 256 * 1024);
    assert.equal(checkConfig(text, 'c.json').config?.gc.min, 20);
    const wrong = `${text.slice(0, -1)},"gcc":{}}`;
    const [error] = checkConfig(wrong, 'c.json').errors;
    assert.equal(error?.column, text.length + 1);
  });
});

describe('a service that is not valid', () => {
  const text = `services:
  - { name: good, frontends: [{ address: 10.96.0.1, port: 80 }] }
  - { name: heavy, backends: [{ address: 10.0.1.1, port: 1, weight: 70000 }] }
  - { name: twin, frontends: [{ address: 10.96.0.1, port: 80 }] }
`;

  it('is an error of the file, and is left out where the file is used', () => {
    const { config, rest, errors } = checkConfig(text, 'c.yaml');
    assert.equal(config, undefined);
    assert.equal(errors.length, 1);
    assert.deepEqual(
      rest?.services.map(({ name }) => name),
      ['good'],
    );
    assert.deepEqual(
      rest?.rejectedServices?.map(({ name, reason }) => [name, reason.split(': ').slice(0, 2)]),
      [
        ['heavy', ['c.yaml:3:69', 'services[1].backends[0].weight']],
        ['twin', ['c.yaml:4:31', 'services[2].frontends[0]']],
      ],
    );
  });

  it('saves nothing else that is wrong', () => {
    const { rest } = checkConfig(`${text}gc: { min: 0s }\n`, 'c.yaml');
    assert.equal(rest, undefined);
  });
});
