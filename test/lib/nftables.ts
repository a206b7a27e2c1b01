import { spawnSync } from 'node:child_process';
import { run } from './command.ts';
import type { Namespace } from './netns.ts';
import type { Topology } from './topology.ts';

/**
 * The kernel's own masquerade on the first node: what Sekisho is checked and measured against.
 * With `ports` (inclusive) TCP and UDP leave with these and nothing else is translated.
 */
export async function masqueradeWithNftables(
  topo: Topology,
  ports?: readonly [number, number],
): Promise<void> {
  const [node] = topo.nodes;
  if (!node) throw new RangeError('no node');
  const action = ports
    ? `meta l4proto { tcp, udp } masquerade to :${ports[0]}-${ports[1]}`
    : 'masquerade';
  const rules = `
    table inet cross_check {
      chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname eth0 ip saddr ${node.podCIDRs.ipv4} ${action}
        oifname eth0 ip6 saddr ${node.podCIDRs.ipv6} ${action}
      }
    }`;
  await applyRules(topo.node, rules);
}

/** Adds what a file of nftables rules says to a namespace. */
export async function applyRules(ns: Namespace, rules: string): Promise<void> {
  await run(['nsenter', `--net=/run/netns/${ns.name}`, 'nft', '-f', '-'], { input: rules });
}

/** The reason to skip, or false. */
export function nftablesIsMissing(): string | false {
  return spawnSync('nft', ['--version']).error ? 'nft is not installed' : false;
}
