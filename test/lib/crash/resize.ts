/** Resizes IPv4's `ct_tcp`, as an agent does that has it open: one to be killed on the way. */
import { join } from 'node:path';
import { resizeTable } from '../../../agent/engine/resize.ts';
import { type BpfMap, openPinnedMap } from '../../../agent/kernel/map.ts';

const [bpffs = '', entries = ''] = process.argv.slice(2);
const open = new Map<string, BpfMap>();
let old: BpfMap | undefined;

function pinned(path: string): BpfMap {
  const map = openPinnedMap(join(bpffs, path));
  if (!map) throw new Error(`nothing is pinned at ${path}`);
  return map;
}

await resizeTable(
  {
    bpffs,
    maps: {
      map: (family, name) => open.get(name) ?? pinned(`${family}/${name}`),
      previous: () => old,
      put(_family, name, current, previous) {
        open.set(name, current);
        old = previous;
      },
    },
  },
  'ipv4',
  'ct_tcp',
  Number(entries),
);
