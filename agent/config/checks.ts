import { sizeMaps } from '../engine/sizing.ts';
import { ConfigError } from '../lib/errors.ts';
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from '../lib/ip.ts';
import { formatDuration } from '../lib/units.ts';
import type { Path, Problem } from './problem.ts';
import { formatPath } from './problem.ts';
import type { configSchema } from './schema.ts';

type Parsed = ReturnType<typeof configSchema.parse>;

/** What no single value can show: relations between values. `totalMemory` in bytes. */
export function crossChecks(config: Parsed, totalMemory: number): Problem[] {
  return [
    ...rangeChecks(config),
    ...endpointChecks(config),
    ...clusterChecks(config),
    ...serviceChecks(config),
    ...sizeChecks(config, totalMemory),
  ];
}

function rangeChecks({ masquerade, gc, maps }: Parsed): Problem[] {
  const problems: Problem[] = [];
  const { min, max } = masquerade.ports;
  if (min > max) {
    const message = `expected at most masquerade.ports.max (${max}), got ${min}`;
    problems.push(wrong(['masquerade', 'ports', 'min'], message));
  }
  if (gc.min > gc.max) {
    const message = `expected at most gc.max (${formatDuration(gc.max)}), got ${formatDuration(gc.min)}`;
    problems.push(wrong(['gc', 'min'], message));
  }
  if (maps.memoryRatio > maps.maxMemoryRatio) {
    const message = `expected at most maps.maxMemoryRatio (${maps.maxMemoryRatio}), got ${maps.memoryRatio}`;
    problems.push(wrong(['maps', 'memoryRatio'], message));
  }
  return problems;
}

function endpointChecks({ endpoints }: Parsed): Problem[] {
  const names = endpoints.map(({ name }, i) => keyed(['endpoints', i, 'name'], name));
  const addresses = endpoints.flatMap((endpoint, i) =>
    endpoint.addresses.map((address, j) =>
      keyed(['endpoints', i, 'addresses', j], canonical(address)),
    ),
  );
  return [...repeated(names), ...repeated(addresses)];
}

function clusterChecks({ cluster: { nodes } }: Parsed): Problem[] {
  return [
    ...repeated(nodes.map(({ name }, i) => keyed(['cluster', 'nodes', i, 'name'], name))),
    ...repeated(
      nodes.map(({ address }, i) => keyed(['cluster', 'nodes', i, 'address'], canonical(address))),
    ),
    ...repeated(
      nodes.flatMap(({ podCIDRs }, i) =>
        [...new Set(podCIDRs.map((text) => formatPrefix(parsePrefix(text))))].map((prefix) =>
          keyed(['cluster', 'nodes', i, 'podCIDRs'], prefix),
        ),
      ),
    ),
  ];
}

function serviceChecks({ services }: Parsed): Problem[] {
  const names = services.map(({ name }, i) => keyed(['services', i, 'name'], name));
  const frontends = services.flatMap((service, i) =>
    service.frontends.map((frontend, j) => {
      const key = `${canonical(frontend.address)} port ${frontend.port}/${frontend.protocol}`;
      return keyed(['services', i, 'frontends', j], key);
    }),
  );
  const backends = services.flatMap((service, i) =>
    repeated(
      service.backends.map(({ address, port }, j) =>
        keyed(['services', i, 'backends', j], `${canonical(address)} port ${port}`),
      ),
    ),
  );
  const nodePorts = services.flatMap(({ type, nodePort }, i) => {
    const has = nodePort !== undefined;
    const at = ['services', i, 'nodePort'];
    if (has && type === 'ClusterIP') return [wrong(at, 'a ClusterIP service has no node port')];
    if (!has && type === 'NodePort') return [wrong(at, 'missing; a NodePort service needs one')];
    return [];
  });
  return [...repeated(names), ...repeated(frontends), ...backends, ...nodePorts];
}

function sizeChecks({ maps }: Parsed, totalMemory: number): Problem[] {
  try {
    sizeMaps(maps, totalMemory);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [wrong(['maps', 'nat'], error.message.replace(/^maps\.nat: /, ''))];
  }
}

interface Keyed {
  path: Path;
  value: string;
}

function keyed(path: Path, value: string): Keyed {
  return { path, value };
}

function repeated(items: readonly Keyed[]): Problem[] {
  const first = new Map<string, Path>();
  const problems: Problem[] = [];
  for (const { path, value } of items) {
    const earlier = first.get(value);
    if (earlier === undefined) first.set(value, path);
    else problems.push(wrong(path, `${value} stands at ${formatPath(earlier)} already`));
  }
  return problems;
}

function wrong(path: Path, message: string): Problem {
  return { path, at: 'value', message };
}

function canonical(address: string): string {
  return formatAddress(parseAddress(address).bytes);
}
