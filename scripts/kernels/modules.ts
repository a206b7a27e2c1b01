import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { toolPath } from './packages.ts';
import { unpack } from './vmlinux.ts';

/** What the guest needs before it has a root file system. */
const WANTED = ['virtio_pci', 'virtio_console', 'virtiofs', 'overlay'];

/** Writes the indexes that a kernel package leaves to its installation. */
export function indexModules(tools: string, tree: string, version: string): void {
  if (existsSync(join(tree, 'lib/modules', version, 'modules.dep'))) return;
  const { status } = spawnSync(toolPath(tools, 'kmod'), ['-b', tree, version], {
    argv0: 'depmod',
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, LD_LIBRARY_PATH: join(tools, 'usr/lib/x86_64-linux-gnu') },
  });
  if (status !== 0) throw new Error(`depmod ${version}: exit ${status}`);
}

/** The modules that mount the guest's root, unpacked, in the order in which they go in. */
export function rootModules(tree: string, version: string): { name: string; contents: Buffer }[] {
  const directory = join(tree, 'lib/modules', version);
  const needs = readDependencies(directory);
  const order = new Set<string>();
  for (const name of WANTED) {
    const path = [...needs.keys()].find((module) => moduleName(module) === name);
    // Not a module of this kernel: built in.
    if (!path) continue;
    for (const module of (needs.get(path) ?? []).toReversed()) order.add(module);
    order.add(path);
  }
  return [...order].map((path) => {
    const contents = readFileSync(join(directory, path));
    return {
      name: `${moduleName(path)}.ko`,
      contents: path.endsWith('.xz') ? unpack('xz', contents) : contents,
    };
  });
}

/** modules.dep: `path: what it needs, nearest first`. */
function readDependencies(directory: string): Map<string, string[]> {
  const lines = readFileSync(join(directory, 'modules.dep'), 'utf8').trimEnd().split('\n');
  return new Map(
    lines.map((line) => {
      const [path = '', needs = ''] = line.split(':');
      return [path, needs.split(' ').filter(Boolean)];
    }),
  );
}

function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.xz)?$/, '')
    .replaceAll('-', '_');
}
