import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listAttachments } from '../../agent/engine/attach.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { run } from './command.ts';
import { FAMILIES, type Node } from './topology.ts';

/** What a node keeps in the kernel. Programs count when they use one of its pinned maps. */
export interface KernelObjects {
  programs: number;
  links: number;
  /** In the node's namespace. */
  processes: number;
  /** Paths below the node's bpffs. */
  pins: string[];
}

const TABLES = ['ct_tcp', 'ct_any', 'snat'];
const CURRENT = new Uint8Array(4);

export async function kernelObjects(node: Node): Promise<KernelObjects> {
  const pins = readdirSync(node.bpffs, { recursive: true, encoding: 'utf8' }).sort();
  const own = new Set(FAMILIES.flatMap((family) => mapIds(join(node.bpffs, family))));
  const programs = await allPrograms();
  const { stdout: pids } = await run(['ip', 'netns', 'pids', node.ns.name]);
  return {
    programs: programs.filter(({ map_ids = [] }) => map_ids.some((id) => own.has(id))).length,
    links: listAttachments(node.bpffs).filter(({ attached }) => attached).length,
    processes: pids.trim().split('\n').filter(lasts).length,
    pins,
  };
}

/** All but the commands with which the daemon reads the network, whenever it likes. */
function lasts(pid: string): boolean {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return command !== '' && !command.split('\0').includes('-json');
  } catch {
    return false;
  }
}

/** Ids of all programs that the kernel holds. */
export async function liveProgramIds(): Promise<Set<number>> {
  return new Set((await allPrograms()).map(({ id }) => id));
}

async function allPrograms(): Promise<{ id: number; map_ids?: number[] }[]> {
  const { stdout } = await run(['bpftool', '--json', 'prog', 'show']);
  return JSON.parse(stdout);
}

/** Why pins contradict each other: each connection table must be the one that programs use. */
export function inconsistentPins(node: Node): string[] {
  return FAMILIES.flatMap((family) =>
    TABLES.filter((table) => {
      using inner = openPinnedMap(join(node.bpffs, family, table));
      using outer = openPinnedMap(join(node.bpffs, family, `${table}_maps`));
      return inner === undefined || outer?.lookupId(CURRENT) !== inner.id;
    }).map((table) => `${family}/${table} is not what ${table}_maps leads to`),
  );
}

function mapIds(directory: string): number[] {
  return readdirSync(directory).flatMap((name) => {
    using map = openPinnedMap(join(directory, name));
    return map ? [map.id] : [];
  });
}
