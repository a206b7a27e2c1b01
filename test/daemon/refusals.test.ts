import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { configure, sekisho, startAgent } from '../lib/daemon.ts';
import { nth } from '../lib/scene.ts';
import { type Topology, topology } from '../lib/topology.ts';
import { until } from '../lib/wait.ts';

const BINARY = fileURLToPath(new URL('../../bin/sekisho', import.meta.url));
const PRIVILEGE_HINT = 'run it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON';

interface Refusal {
  name: string;
  /** What the command is run through. */
  via: string[];
  /** All of standard error, after the program's name. */
  says: RegExp;
}

const REFUSALS: Refusal[] = [
  ...['bpf', 'perfmon', 'net_admin'].map((capability) => ({
    name: `without CAP_${capability.toUpperCase()}`,
    via: without(capability, 'sys_admin'),
    says: new RegExp(
      `^the capability CAP_${capability.toUpperCase()} is missing \\(${PRIVILEGE_HINT}\\)$`,
    ),
  })),
  {
    name: 'as a user who may not read the configuration',
    via: ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'],
    says: /^\S+: cannot read it: permission denied \(run it as root\)$/,
  },
  {
    name: 'without BTF',
    via: hiding('/sys/kernel/btf'),
    says: /^the kernel carries no BTF \(.+\)$/,
  },
];

test('a start that is refused says why in one line, exits with 1 and leaves nothing', async (t) => {
  await using topo = await topology();
  for (const { name, via, says } of REFUSALS) {
    await t.test(name, async () => {
      const { code, stderr } = await startRefused(topo, via);
      assert.equal(code, 1);
      assert.match(stderr, /^sekisho: [^\n]+\n$/);
      assert.match(stderr.slice('sekisho: '.length).trimEnd(), says);
      const { bpffs } = nth(topo.nodes);
      assert.equal(existsSync(bpffs), false, `pins: ${existsSync(bpffs) && readdirSync(bpffs)}`);
    });
  }

  await t.test('and the next start finds nothing in its way', async () => {
    await startAgent(topo);
    assert.equal((await sekisho(topo, 'status')).code, 0);
  });
});

test('a qdisc that classic TC cannot go beside is found before anything changes', async () => {
  await using topo = await topology();
  const node = nth(topo.nodes);
  await node.ns.ip('link add eth1 type veth peer name eth1-peer');
  await node.ns.exec('tc', 'qdisc', 'add', 'dev', 'eth1', 'ingress');
  const file = configure(node, {
    node: { devices: ['eth0', 'eth1'] },
    datapath: { attach: 'tc' },
  });
  const { code, stderr } = await node.ns.tryExec(BINARY, 'agent', '--config', file);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^sekisho: interface \d+ has a qdisc ingress where clsact must be \([^\n]+\)\n$/,
  );
  assert.equal(existsSync(node.bpffs), false);
  const { stdout } = await node.ns.exec('tc', 'qdisc', 'show', 'dev', 'eth0');
  assert.doesNotMatch(stdout, /clsact/);
});

test('neither the first start nor the next one needs CAP_SYS_ADMIN', async () => {
  await using topo = await topology();
  const node = nth(topo.nodes);
  for (const start of ['first', 'second']) {
    const command = [...without('sys_admin'), BINARY, 'agent', '--config', configure(node)];
    const child = node.ns.spawn(command, { stdio: 'ignore' });
    const ended = once(child, 'exit');
    const isServing = () => {
      assert.equal(child.exitCode, null, `the ${start} start failed`);
      return existsSync(join(node.runDir, 'agent.sock'));
    };
    await until(`the ${start} start`, isServing, { timeout: 30_000 });
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
  }
});

function startRefused(topo: Topology, via: string[]) {
  const node = nth(topo.nodes);
  return node.ns.tryExec(...via, BINARY, 'agent', '--config', configure(node));
}

function without(...capabilities: string[]): string[] {
  return ['setpriv', '--bounding-set', capabilities.map((name) => `-${name}`).join()];
}

/** In a mount namespace of its own, where the directory is empty. */
function hiding(directory: string): string[] {
  return ['unshare', '--mount', 'sh', '-c', `mount -t tmpfs none ${directory} && exec "$@"`, 'sh'];
}
