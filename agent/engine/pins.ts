import { join } from 'node:path';
import type { Family } from '../lib/ip.ts';
import { PREVIOUS_SUFFIX, STAGED_SUFFIX } from '../tables/names.ts';

/** Where the maps of a family are pinned. */
export function familyDirectory(bpffs: string, family: Family): string {
  return join(bpffs, family);
}

/** Where a map of a family is pinned. */
export function mapPin(bpffs: string, family: Family, name: string): string {
  return join(familyDirectory(bpffs, family), name);
}

/** Where the successor of a pin is put until it takes the pin's place. */
export function stagedPin(path: string): string {
  return path + STAGED_SUFFIX;
}

/** Whether a name is that of a staged pin. */
export function isStaged(name: string): boolean {
  return name.endsWith(STAGED_SUFFIX);
}

/** Where the map that a resize has not emptied yet is pinned. */
export function previousPin(path: string): string {
  return path + PREVIOUS_SUFFIX;
}

/** Where the state that both families share is pinned. */
export function nodePin(bpffs: string): string {
  return join(bpffs, 'node');
}

/** Where the layouts of the pinned maps are pinned. */
export function layoutsPin(bpffs: string): string {
  return join(bpffs, 'layouts');
}

/** Where it is pinned how many evictions were told. */
export function evictionsPin(bpffs: string): string {
  return join(bpffs, 'evictions');
}

/** Where it is pinned which ids services were given last. */
export function serviceIdsPin(bpffs: string): string {
  return join(bpffs, 'service_ids');
}

/** Where it is pinned what is in the tables of backends. */
export function serviceTablesPin(bpffs: string): string {
  return join(bpffs, 'service_tables');
}

/** Where what both families share is pinned. */
export function sharedPins(bpffs: string): string[] {
  const pins = [nodePin, layoutsPin, evictionsPin, serviceIdsPin, serviceTablesPin];
  return pins.map((pin) => pin(bpffs));
}

/** Where the attached links are pinned. */
export function linkDirectory(bpffs: string): string {
  return join(bpffs, 'links');
}
