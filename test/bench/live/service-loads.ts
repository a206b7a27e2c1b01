import { balancersOf, type Skipped } from './balancers.ts';
import type { Field } from './compare.ts';
import type { Load } from './loads.ts';
import {
  CLUSTER_IP,
  CLUSTER_IP_ELSEWHERE,
  DSR,
  NODE_PORT_SNAT,
  type ServicePath,
} from './service-paths.ts';
import { bulk, connections, download, requestResponse } from './tcp.ts';
import { CPU } from './tools.ts';

/** A load on one path of a service, and who can carry it. */
export interface ServiceLoad {
  load: Load;
  field: Field;
}

type Kind = Pick<Load, 'key' | 'title' | 'unit' | 'scale' | 'run'>;

const RR: Kind = {
  ...{ key: 'rr', title: 'request–response', unit: '/s', scale: 1 },
  run: requestResponse,
};
const CRR: Kind = {
  ...{ key: 'crr', title: 'connect–request–close', unit: '/s', scale: 1 },
  run: (variant, milliseconds) => connections(variant, milliseconds, 1, CPU.measured),
};
const UP: Kind = {
  ...{ key: 'bulk-up', title: 'bulk to the backend', unit: 'Gbit/s', scale: 1e9 },
  run: bulk,
};
const DOWN: Kind = {
  ...{ key: 'bulk-down', title: 'bulk from the backend', unit: 'Gbit/s', scale: 1e9 },
  run: download,
};

/** Every load on every path that is measured; all of TCP, on one core. */
export function serviceLoads(skipped: Skipped): ServiceLoad[] {
  const all: [ServicePath, Kind[]][] = [
    [CLUSTER_IP, [RR, CRR]],
    [CLUSTER_IP_ELSEWHERE, [RR, CRR]],
    [NODE_PORT_SNAT, [RR, CRR]],
    [DSR, [RR, CRR, UP, DOWN]],
  ];
  return all.flatMap(([path, kinds]) => {
    const field = balancersOf(path, skipped);
    return kinds.map((kind) => ({ load: loadOn(path, kind), field }));
  });
}

function loadOn(path: ServicePath, kind: Kind): Load {
  const [key, title] = [`${path.key}-${kind.key}`, `${path.title}: ${kind.title}`];
  return { ...kind, part: 'services', key, title };
}
