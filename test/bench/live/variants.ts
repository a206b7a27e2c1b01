import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Settings, startAgent } from '../../lib/daemon.ts';
import { masqueradeWithNftables } from '../../lib/nftables.ts';
import { nth } from '../../lib/scene.ts';
import { type Topology, topology } from '../../lib/topology.ts';
import type { Seen } from './tools.ts';

export const VARIANTS = ['plain', 'nftables', 'redirect', 'sekisho'] as const;
export type VariantName = (typeof VARIANTS)[number];

/** The world answers to every address of this network. */
export const WORLD = { prefix: '198.18.0.0/16', first: '198.18.0.1' };

/** One way from a pod to the world, on a topology of its own. */
export interface Variant extends AsyncDisposable {
  name: VariantName;
  topo: Topology;
  /** What packets the node's stack forwarded so far, and how many its conntrack knows. */
  look(): Promise<Look>;
  /** Fails unless `packets` packets went the way that is to be measured. */
  assertPath(before: Look, after: Look, seen: Seen, packets: number): void;
}

export interface Look {
  forwarded: number;
  tracked: number;
}

export interface VariantSettings {
  /** Of the masquerade, inclusive; Sekisho's default and nftables' own choice when left out. */
  ports?: [number, number];
  /** Sections of Sekisho's configuration beside the defaults. */
  sekisho?: Settings;
}

/** Who translates, and whether packets pass the node's own forwarding. */
const NATURE: Record<VariantName, { masquerades: boolean; byStack: boolean }> = {
  plain: { masquerades: false, byStack: true },
  nftables: { masquerades: true, byStack: true },
  redirect: { masquerades: false, byStack: false },
  sekisho: { masquerades: true, byStack: false },
};

/** Builds pod, node and world, and what is between them in this variant. */
export async function openVariant(
  name: VariantName,
  settings: VariantSettings = {},
): Promise<Variant> {
  const topo = await topology();
  try {
    await prepareRoutes(topo);
    await INSTALL[name](topo, settings);
  } catch (error) {
    await topo[Symbol.asyncDispose]();
    throw error;
  }
  return {
    name,
    topo,
    look: () => lookAt(topo),
    assertPath: (before, after, seen, packets) =>
      assertPath(name, topo, { before, after, seen, packets }),
    [Symbol.asyncDispose]: () => topo[Symbol.asyncDispose](),
  };
}

/** Several at a time; all of them are removed when one cannot be made. */
export async function openVariants(
  names: readonly VariantName[],
  settings: VariantSettings = {},
): Promise<AsyncDisposable & { all: Variant[] }> {
  await using stack = new AsyncDisposableStack();
  const all: Variant[] = [];
  for (const name of names) all.push(stack.use(await openVariant(name, settings)));
  const owned = stack.move();
  return { all, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const INSTALL: Record<VariantName, (topo: Topology, settings: VariantSettings) => Promise<void>> = {
  async plain(topo) {
    await routeBack(topo);
  },
  async nftables(topo, { ports }) {
    await masqueradeWithNftables(topo, ports);
  },
  async redirect(topo) {
    await routeBack(topo);
    const { bpffs } = nth(topo.nodes);
    mkdirSync(bpffs);
    const program = join(import.meta.dirname, 'redirect.ts');
    await topo.node.exec(process.execPath, program, nth(topo.pods).interface, 'eth0', bpffs);
  },
  async sekisho(topo, { ports, sekisho = {} }) {
    const [min, max] = ports ?? [];
    const masquerade = ports ? { masquerade: { ports: { min, max } } } : {};
    await startAgent(topo, { ...masquerade, ...sekisho });
  },
};

/** Neighbours that never expire, and a world that is everybody. */
async function prepareRoutes(topo: Topology): Promise<void> {
  const [node, pod] = [nth(topo.nodes), nth(topo.pods)];
  await topo.node.ip(
    `neigh replace ${topo.gateway.ipv4} lladdr ${topo.worldMac} dev eth0 nud permanent`,
    `neigh replace ${pod.addresses.ipv4} lladdr ${pod.mac} dev ${pod.interface} nud permanent`,
  );
  await topo.world.ip(
    `neigh replace ${node.addresses.ipv4} lladdr ${node.mac} dev eth0 nud permanent`,
    `route add local ${WORLD.prefix} dev lo`,
  );
}

/** Where nothing translates, the world must know the pods. */
async function routeBack(topo: Topology): Promise<void> {
  const node = nth(topo.nodes);
  await topo.world.ip(`route add ${node.podCIDRs.ipv4} via ${node.addresses.ipv4}`);
}

async function lookAt(topo: Topology): Promise<Look> {
  const { stdout } = await topo.node.exec('sh', '-c', LOOK);
  const [names = '', values = '', tracked = ''] = stdout.trimEnd().split('\n');
  const column = names.split(' ').indexOf('ForwDatagrams');
  return { forwarded: Number(values.split(' ')[column]), tracked: Number(tracked) };
}

const LOOK = `grep ^Ip: /proc/net/snmp
cat /proc/sys/net/netfilter/nf_conntrack_count 2>/dev/null || echo 0`;

interface Passed {
  before: Look;
  after: Look;
  seen: Seen;
  packets: number;
}

function assertPath(name: VariantName, topo: Topology, passed: Passed): void {
  const { masquerades, byStack } = NATURE[name];
  const [node, pod] = [nth(topo.nodes), nth(topo.pods)];
  const expected = (masquerades ? node : pod).addresses.ipv4;
  const fail = (what: string): never => {
    throw new Error(`${name} did not do what is measured: ${what}`);
  };
  const { peer, strangers } = passed.seen;
  if (peer !== expected || strangers > 0) {
    fail(`the world saw ${peer} and ${strangers} others, not ${expected} alone`);
  }
  const forwarded = passed.after.forwarded - passed.before.forwarded;
  if (byStack ? forwarded < passed.packets : forwarded > passed.packets / 100) {
    fail(`the node's stack forwarded ${forwarded} of ${passed.packets} packets`);
  }
  if (passed.after.tracked > 0 !== (name === 'nftables')) {
    fail(`the kernel's conntrack holds ${passed.after.tracked} flows`);
  }
}
