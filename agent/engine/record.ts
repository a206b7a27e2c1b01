import { type BpfMap, createMap, type MapShape, openPinnedMap } from '../kernel/map.ts';

/**
 * Opens a map of the daemon's own that is pinned beside the datapath's, and as old as those; or
 * pins it. What has another shape is another version's, and forgotten.
 */
export function openRecord(path: string, shape: MapShape): BpfMap {
  const pinned = openPinnedMap(path);
  if (pinned && fits(pinned, shape)) return pinned;
  pinned?.close();
  using stack = new DisposableStack();
  const map = stack.use(createMap(shape));
  map.pin(path, { replace: true });
  stack.move();
  return map;
}

function fits(map: BpfMap, { type, keySize, valueSize, maxEntries }: MapShape): boolean {
  return (
    map.type === type &&
    map.keySize === keySize &&
    map.valueSize === valueSize &&
    map.maxEntries === maxEntries
  );
}
