import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Settings, startAgent } from '../../lib/daemon.ts';
import { masqueradeWithNftables } from '../../lib/nftables.ts';
import { nth } from '../../lib/scene.ts';
import { type Topology, topology } from '../../lib/topology.ts';
import type { Field } from './compare.ts';
import { fixNeighbours } from './neighbours.ts';
import { makeVariant, openEach, type Variant } from './variant.ts';

export const VARIANTS = ['plain', 'nftables', 'redirect', 'sekisho'] as const;
export type VariantName = (typeof VARIANTS)[number];

/** The world answers to every address of this network. */
export const WORLD = { prefix: '198.18.0.0/16', first: '198.18.0.1' };
const PORT = 9000;

export interface VariantSettings {
  /** Of the masquerade, inclusive; Sekisho's default and nftables' own choice when left out. */
  ports?: [number, number];
  /** Sections of Sekisho's configuration beside the defaults. */
  sekisho?: Settings;
}

/** Who translates, and whether packets pass the node's own forwarding. */
const NATURE: Record<VariantName, { masquerades: boolean; byStack: 'all' | 'none' }> = {
  plain: { masquerades: false, byStack: 'all' },
  nftables: { masquerades: true, byStack: 'all' },
  redirect: { masquerades: false, byStack: 'none' },
  sekisho: { masquerades: true, byStack: 'none' },
};

/** Builds pod, node and world, and what is between them in this variant. */
export async function openVariant(
  name: VariantName,
  settings: VariantSettings = {},
): Promise<Variant> {
  const topo = await topology();
  const { masquerades, byStack } = NATURE[name];
  const [node, pod] = [nth(topo.nodes), nth(topo.pods)];
  const peer = (masquerades ? node : pod).addresses.ipv4;
  const way = { name, peer, byStack, tracked: name === 'nftables' };
  const host = nth(topo.worldAddresses).ipv4;
  const ends = { client: pod.ns, server: topo.world, host, port: PORT, serverPort: PORT };
  return makeVariant(topo, { way, ends }, async () => {
    await fixNeighbours(topo);
    await topo.world.ip(`route add local ${WORLD.prefix} dev lo`);
    await INSTALL[name](topo, settings);
  });
}

/** The ways from a pod to the world, every load on all four of them. */
export const MASQUERADES: Field = {
  names: VARIANTS,
  pairs: [
    ['sekisho', 'nftables'],
    ['sekisho', 'redirect'],
    ['nftables', 'plain'],
    ['redirect', 'nftables'],
  ],
  open: ({ maps }) =>
    openEach(VARIANTS, (name) => openVariant(name, maps ? { sekisho: { maps } } : {})),
};

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

/** Where nothing translates, the world must know the pods. */
async function routeBack(topo: Topology): Promise<void> {
  const node = nth(topo.nodes);
  await topo.world.ip(`route add ${node.podCIDRs.ipv4} via ${node.addresses.ipv4}`);
}
