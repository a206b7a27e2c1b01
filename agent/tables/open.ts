import { join } from 'node:path';
import type { Layout } from '../abi/layout.ts';
import { type BpfMap, openPinnedMap } from '../kernel/map.ts';
import { SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';

/** Sizes a pinned map must have to be read with a layout; 4 for a plain index. */
export interface RowLayout {
  key: Layout | 4;
  value: Layout;
}

/**
 * Opens the map pinned at `<bpffs>/<family>/<name>`. Throws E_NO_MAPS when there is none and
 * E_LAYOUT when its keys or values have other sizes than the layouts.
 */
export function openFamilyMap(
  bpffs: string,
  family: Family,
  name: string,
  layout: RowLayout,
): BpfMap {
  return openWithLayout(join(bpffs, family, name), layout);
}

/** Like `openFamilyMap`, for any path. */
export function openWithLayout(path: string, layout: RowLayout): BpfMap {
  const map = openPinnedMap(path);
  if (map) return requireLayout(map, path, layout);
  throw new SekishoError('E_NO_MAPS', `no map is pinned at ${path}`, {
    hint: 'start the agent once',
  });
}

/** The map itself, or E_LAYOUT (and the map closed) when its sizes are not those of the layouts. */
export function requireLayout(map: BpfMap, what: string, { key, value }: RowLayout): BpfMap {
  const keySize = key === 4 ? 4 : key.size;
  if (map.keySize === keySize && map.valueSize === value.size) return map;
  map.close();
  throw new SekishoError('E_LAYOUT', `${what} has a layout this version does not know`, {
    hint: 'restart the agent: it carries over what it can, or says what it cannot',
  });
}
