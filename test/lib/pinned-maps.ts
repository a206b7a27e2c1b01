import { join } from 'node:path';
import type { ResizedMaps } from '../../agent/engine/resize.ts';
import { type BpfMap, openPinnedMap } from '../../agent/kernel/map.ts';

/** The maps pinned under a directory, as who resizes them has them open: no programs. */
export function pinnedMaps(bpffs: string): ResizedMaps & Disposable {
  const open = new Map<string, BpfMap>();
  const previous = new Map<string, BpfMap>();
  return {
    map(family, name) {
      const path = `${family}/${name}`;
      const map = open.get(path) ?? openPinnedMap(join(bpffs, path));
      if (!map) throw new Error(`nothing is pinned at ${path}`);
      open.set(path, map);
      return map;
    },
    previous: (family, table) => previous.get(`${family}/${table}`),
    put(family, table, current, before) {
      const path = `${family}/${table}`;
      const replaced = [open.get(path), previous.get(path)];
      open.set(path, current);
      if (before) previous.set(path, before);
      else previous.delete(path);
      for (const map of replaced) if (map !== current && map !== before) map?.close();
    },
    [Symbol.dispose]() {
      for (const map of [...open.values(), ...previous.values()]) map.close();
    },
  };
}
