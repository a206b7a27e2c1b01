import { type Settings, startAgent } from '../../lib/daemon.ts';
import type { Namespace } from '../../lib/netns.ts';
import { applyRules } from '../../lib/nftables.ts';
import { nth } from '../../lib/scene.ts';
import type { Field } from './compare.ts';
import { balanceWithIpvs, ipvsIsMissing } from './ipvs.ts';
import {
  buildPlace,
  othersThan,
  type Place,
  type ServicePath,
  setRoutes,
} from './service-paths.ts';
import { makeVariant, openEach, type Variant } from './variant.ts';

export const BALANCERS = ['nftables', 'ipvs', 'sekisho'] as const;
export type Balancer = (typeof BALANCERS)[number];

const BY_STACK = { nftables: 'all', ipvs: 'answers', sekisho: 'none' } as const;

/** Who is not measured on this machine, and why. */
export type Skipped = Partial<Record<Balancer, string>>;

export function skippedBalancers(): Skipped {
  const reason = ipvsIsMissing();
  return reason ? { ipvs: reason } : {};
}

/** The others, to lead connections along this path. */
export function balancersOf(path: ServicePath, skipped: Skipped): Field {
  const names = BALANCERS.filter((name) => skipped[name] === undefined);
  const others = names.filter((name) => name !== 'sekisho');
  return {
    names,
    pairs: others.map((name) => ['sekisho', name] as const),
    open: () => openEach(names, (name) => openBalancer(name, path)),
  };
}

/** Builds the path's topology, and puts a balancer on its nodes. */
async function openBalancer(name: Balancer, path: ServicePath): Promise<Variant> {
  const place = await buildPlace(path);
  const { topo, ends, client } = place;
  const own = name === 'sekisho';
  /** So that the backend answers by way of the first node. */
  const hides = path.client === 'world' && !(own && path.service.forwarding === 'dsr');
  const way = {
    name,
    peer: hides ? nth(topo.nodes).addresses.ipv4 : client,
    byStack: BY_STACK[name],
    tracked: name === 'nftables' || (name === 'ipvs' && hides),
  };
  return makeVariant(topo, { way, ends }, async () => {
    await setRoutes(place);
    await INSTALL[name](place);
  });
}

/** On every node, as in any cluster. */
const INSTALL: Record<Balancer, (place: Place) => Promise<void>> = {
  async nftables(place) {
    for (const { ns } of place.topo.nodes) await balanceWithNftables(ns, place);
  },
  async ipvs(place) {
    for (const { ns } of place.topo.nodes) await balanceWithIpvs(ns, place);
  },
  async sekisho(place) {
    const { topo } = place;
    for (const node of topo.nodes) {
      const nodes = othersThan(node, topo).map(({ name, addresses, podCIDRs }) => ({
        ...{ name, address: addresses.ipv4, podCIDRs: Object.values(podCIDRs) },
      }));
      await startAgent(topo, { cluster: { nodes }, services: [describeService(place)] }, node);
    }
  },
};

function describeService({ path, frontend, backend }: Place): Settings {
  const { address, port } = frontend;
  const where = path.address ? { frontends: [{ address, port }] } : { nodePort: port };
  const backends = [{ address: backend.address, port: backend.port }];
  return { name: path.key, ...where, backends, ...path.service };
}

/** One DNAT rule; a client beyond the node has its answers come back by a masquerade. */
async function balanceWithNftables(ns: Namespace, place: Place): Promise<void> {
  const { frontend, backend, path } = place;
  const to = `${backend.address}:${backend.port}`;
  const masquerade = path.client === 'world' ? 'ct status dnat masquerade' : '';
  const rules = `
    table ip services {
      chain prerouting {
        type nat hook prerouting priority dstnat;
        ip daddr ${frontend.address} tcp dport ${frontend.port} dnat to ${to}
      }
      chain postrouting {
        type nat hook postrouting priority srcnat;
        ${masquerade}
      }
    }`;
  await applyRules(ns, rules);
}
