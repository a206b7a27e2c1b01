import { join } from 'node:path';
import type { Family } from '../lib/ip.ts';

/** Where a map of a family is pinned. */
export function mapPin(bpffs: string, family: Family, name: string): string {
  return join(bpffs, family, name);
}

/** Where the state that both families share is pinned. */
export function nodePin(bpffs: string): string {
  return join(bpffs, 'node');
}

/** Where the attached links are pinned. */
export function linkDirectory(bpffs: string): string {
  return join(bpffs, 'links');
}
