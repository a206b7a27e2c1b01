import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createNamespace, type Namespace } from './netns.ts';
import { createScratch, type Scratch } from './scratch.ts';
import { until } from './wait.ts';

export type Family = 'ipv4' | 'ipv6';
export const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** One address per family. */
export type Addresses = Record<Family, string>;

export interface Pod {
  name: string;
  ns: Namespace;
  /** The host side of its veth pair. */
  interface: string;
  addresses: Addresses;
  mac: string;
  /** Of the host side: what the pod sends its packets to. */
  routerMac: string;
}

export interface Node {
  name: string;
  ns: Namespace;
  pods: Pod[];
  addresses: Addresses;
  podCIDRs: Addresses;
  /** Of eth0. */
  mac: string;
  /** Not yet there: a directory on the topology's bpffs for the daemon's pins. */
  bpffs: string;
  runDir: string;
}

/**
 * pods – node – world. Pods reach the node through veth pairs whose host sides are called lxc-…;
 * the node's eth0 shares a network with the world, which has addresses beyond it too and knows no
 * route to any pod, so that a private source can never be answered.
 */
export interface Topology extends AsyncDisposable {
  directory: string;
  pods: Pod[];
  node: Namespace;
  nodes: Node[];
  world: Namespace;
  /** Where the world is reached beyond the node's own network; the first one is the default. */
  worldAddresses: Addresses[];
  /** The world's addresses on the node's network. */
  gateway: Addresses;
  /** Of the world's eth0. */
  worldMac: string;
  /** Registers something to be ended before the namespaces go. */
  use<T extends AsyncDisposable>(resource: T): T;
}

export interface TopologyOptions {
  /** Pods on each node; default 1. */
  pods?: number;
  /** Default 1. With more, their uplinks meet in a bridge in the world. */
  nodes?: number;
  /** Default 1. */
  worldAddresses?: number;
  mtu?: number;
}

const WORLD_MAC = '02:5e:01:00:00:00';
const GATEWAY: Addresses = { ipv4: '192.168.1.1', ipv6: 'fd00:192:168:1::1' };
/** What pods use as their router; the node's side of the pair need not own it. */
const ROUTER: Addresses = { ipv4: '169.254.1.1', ipv6: 'fe80::1' };

/** Builds the namespaces; disposing removes everything that was made in them, also after a failure. */
export async function topology(options: TopologyOptions = {}): Promise<Topology> {
  const { pods = 1, nodes = 1, worldAddresses = 1, mtu = 1500 } = options;
  const scratch = createScratch();
  const resources = new AsyncDisposableStack();
  resources.defer(() => scratch.removeSync());
  try {
    const world = await createNamespace(`${scratch.prefix}-world`);
    const addresses = Array.from({ length: worldAddresses }, (_, i) => worldAddress(i));
    const built: Node[] = [];
    if (nodes > 1)
      await world.ip(`link add eth0 address ${WORLD_MAC} type bridge`, 'link set eth0 up');
    for (let i = 0; i < nodes; i++) built.push(await buildNode(scratch, world, i, nodes > 1, mtu));
    await world.ip(...worldSetup(addresses));
    for (const [i, node] of built.entries()) await buildPods(scratch, node, i, pods, mtu);
    const pairs = [world, ...built.flatMap((node) => [node.ns, ...node.pods.map(({ ns }) => ns)])];
    await Promise.all(pairs.map(settled));
    return assemble(scratch, resources, world, built, addresses);
  } catch (error) {
    await resources.disposeAsync();
    throw error;
  }
}

function assemble(
  scratch: Scratch,
  resources: AsyncDisposableStack,
  world: Namespace,
  nodes: Node[],
  worldAddresses: Addresses[],
): Topology {
  const [first] = nodes;
  if (!first) throw new RangeError('a topology has at least one node');
  return {
    directory: scratch.directory,
    pods: first.pods,
    node: first.ns,
    nodes,
    world,
    worldAddresses,
    gateway: GATEWAY,
    worldMac: WORLD_MAC,
    use: (resource) => resources.use(resource),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function buildNode(
  scratch: Scratch,
  world: Namespace,
  index: number,
  bridged: boolean,
  mtu: number,
): Promise<Node> {
  const name = `node${index === 0 ? '' : index + 1}`;
  const ns = await createNamespace(`${scratch.prefix}-${name}`);
  const addresses = { ipv4: `192.168.1.${5 + index}`, ipv6: `fd00:192:168:1::${5 + index}` };
  const mac = `02:5e:01:00:00:${hexByte(index + 1)}`;
  const uplink = bridged ? `name port${index}` : `name eth0 address ${WORLD_MAC}`;
  await ns.ip(
    `link add eth0 address ${mac} mtu ${mtu} type veth peer ${uplink} mtu ${mtu} netns ${world.name}`,
    `addr add ${addresses.ipv4}/24 dev eth0`,
    `addr add ${addresses.ipv6}/64 dev eth0 nodad`,
    'link set eth0 up',
    `route add default via ${GATEWAY.ipv4}`,
    `route add ::/0 via ${GATEWAY.ipv6} dev eth0`,
  );
  if (bridged) await world.ip(`link set port${index} master eth0`, `link set port${index} up`);
  const own = join(scratch.directory, name);
  mkdirSync(own);
  return {
    name,
    ns,
    pods: [],
    addresses,
    mac,
    podCIDRs: { ipv4: `10.0.${index + 1}.0/24`, ipv6: `fd00:${index + 1}::/64` },
    bpffs: join(scratch.bpffs, name),
    runDir: join(own, 'run'),
  };
}

function worldSetup(addresses: Addresses[]): string[] {
  return [
    `addr add ${GATEWAY.ipv4}/24 dev eth0`,
    `addr add ${GATEWAY.ipv6}/64 dev eth0 nodad`,
    'link set eth0 up',
    ...addresses.flatMap(({ ipv4, ipv6 }) => [
      `addr add ${ipv4}/32 dev lo`,
      `addr add ${ipv6}/128 dev lo nodad`,
    ]),
  ];
}

async function buildPods(
  scratch: Scratch,
  node: Node,
  nodeIndex: number,
  count: number,
  mtu: number,
): Promise<void> {
  for (let i = 0; i < count; i++) {
    const name = `${node.name}-pod${i + 1}`;
    const ns = await createNamespace(`${scratch.prefix}-${name}`);
    const low = hexByte(10 + i);
    const pod: Pod = {
      name,
      ns,
      interface: `lxc-${i + 1}`,
      addresses: {
        ipv4: `10.0.${nodeIndex + 1}.${10 + i}`,
        ipv6: `fd00:${nodeIndex + 1}::${(10 + i).toString(16)}`,
      },
      mac: `02:5e:02:00:${hexByte(nodeIndex)}:${low}`,
      routerMac: `02:5e:03:00:${hexByte(nodeIndex)}:${low}`,
    };
    await plugPod(node, pod, mtu);
    node.pods.push(pod);
  }
}

/** Makes the veth pair of a pod, with addresses and routes on both ends; it must not be there. */
export async function plugPod(node: Node, pod: Pod, mtu = 1500): Promise<void> {
  await node.ns.ip(
    `link add ${pod.interface} mtu ${mtu} address ${pod.routerMac} type veth peer name eth0 mtu ${mtu} address ${pod.mac} netns ${pod.ns.name}`,
    `link set ${pod.interface} up`,
    `route add ${pod.addresses.ipv4}/32 dev ${pod.interface}`,
    `route add ${pod.addresses.ipv6}/128 dev ${pod.interface}`,
  );
  await pod.ns.ip(
    `addr add ${pod.addresses.ipv4}/32 dev eth0`,
    `addr add ${pod.addresses.ipv6}/128 dev eth0 nodad`,
    'link set eth0 up',
    `neigh add ${ROUTER.ipv4} lladdr ${pod.routerMac} dev eth0 nud permanent`,
    `neigh add ${ROUTER.ipv6} lladdr ${pod.routerMac} dev eth0 nud permanent`,
    `route add default via ${ROUTER.ipv4} dev eth0 onlink`,
    `route add ::/0 via ${ROUTER.ipv6} dev eth0`,
  );
}

/** The kernel may take a second to notice a carrier; until then IPv6 answers no solicitation. */
async function settled(ns: Namespace): Promise<unknown> {
  return until(`link-local addresses in ${ns.name}`, async () => {
    const { stdout } = await ns.exec('ip', '-6', '-json', 'addr', 'show', 'up');
    const links = JSON.parse(stdout) as { addr_info: { scope: string; tentative?: boolean }[] }[];
    return links.every(({ addr_info }) =>
      addr_info.some(({ scope, tentative }) => scope !== 'global' && !tentative),
    );
  });
}

const hexByte = (n: number) => n.toString(16).padStart(2, '0');

/** Addresses of the documentation prefixes, spread over them so that they do not look adjacent. */
function worldAddress(index: number): Addresses {
  const low = 45 + index;
  if (low > 254) throw new RangeError('at most 210 world addresses');
  return { ipv4: `203.0.113.${low}`, ipv6: `2001:db8::${low.toString(16)}` };
}
