import type { Config } from '../config/schema.ts';
import { formatAddress, parseAddress, parsePrefix } from '../lib/ip.ts';
import { compile } from './compile.ts';
import { NO_FACTS, type NodeFacts } from './facts.ts';
import { prepareService } from './prepare.ts';

/** What the configuration alone tells of the node and those around it. */
export function configFacts({
  node,
  cluster,
  endpoints,
}: Pick<Config, 'node' | 'cluster' | 'endpoints'>): NodeFacts {
  const pods = (of: string, texts: readonly string[]) =>
    texts.map((text) => ({ prefix: parsePrefix(text), of }));
  return {
    ...NO_FACTS,
    nodes: new Map(cluster.nodes.map(({ name, address }) => [canonical(address), `node ${name}`])),
    endpoints: new Map(
      endpoints.flatMap(({ name, addresses }) => addresses.map((text) => [canonical(text), name])),
    ),
    podRanges: [
      ...pods('this node', node.podCIDRs),
      ...cluster.nodes.flatMap(({ name, podCIDRs }) => pods(`node ${name}`, podCIDRs)),
    ],
  };
}

/** Services of a configuration that will be rejected wherever it is used, one sentence each. */
export function rejectedServices(config: Config): string[] {
  const { rejected } = compile(config.services.map(prepareService), configFacts(config));
  return Array.from(rejected, ([{ spec }, reason]) => `service ${spec.name}: ${reason}`);
}

function canonical(text: string): string {
  return formatAddress(parseAddress(text).bytes);
}
