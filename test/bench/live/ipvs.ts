import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type Namespace, sysctl } from '../../lib/netns.ts';
import { applyRules } from '../../lib/nftables.ts';
import type { Place } from './service-paths.ts';

/** Why IPVS cannot be measured here, or false. Loads the kernel's module where it is one. */
export function ipvsIsMissing(): string | false {
  spawnSync('modprobe', ['ip_vs']);
  if (!existsSync('/proc/net/ip_vs')) return 'this kernel has no ip_vs';
  return spawnSync('ipvsadm', ['--version']).error ? 'ipvsadm is not installed' : false;
}

/**
 * A virtual service in NAT mode, the only one that leads to another port. A client beyond the
 * node has its answers come back by a masquerade, for which IPVS tells conntrack of its flows.
 */
export async function balanceWithIpvs(ns: Namespace, place: Place): Promise<void> {
  const { frontend, backend, path } = place;
  const [service, server] = [frontend, backend].map(({ address, port }) => `${address}:${port}`);
  if (path.address) await ns.ip(`addr add ${path.address}/32 dev lo`);
  if (path.client === 'world') {
    await sysctl(ns, { 'net.ipv4.vs.conntrack': 1 });
    const rules = `
      table ip services {
        chain postrouting {
          type nat hook postrouting priority srcnat;
          oifname eth0 ip daddr ${backend.address} tcp dport ${backend.port} masquerade
        }
      }`;
    await applyRules(ns, rules);
  }
  await ns.exec('ipvsadm', '-A', '-t', service ?? '', '-s', 'rr');
  await ns.exec('ipvsadm', '-a', '-t', service ?? '', '-r', server ?? '', '-m');
}
