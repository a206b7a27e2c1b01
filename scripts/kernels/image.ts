import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Entry } from './cpio.ts';
import { indexModules, rootModules } from './modules.ts';
import { fetchPackages, newestPackage, toolPath } from './packages.ts';
import { extractVmlinux } from './vmlinux.ts';

/** Debian's kernels by the name they are asked for. The cloud flavour is the smallest. */
export const KERNELS: Readonly<Record<string, RegExp>> = {
  '6.1': /^linux-image-6\.1\.0-\d+-cloud-amd64$/,
  '6.12': /^linux-image-6\.12\.\d+\+deb\d+-cloud-amd64$/,
};

/** A kernel that can be booted. */
export interface Image {
  version: string;
  /** The ELF file. */
  vmlinux: string;
  /** Has lib/modules/VERSION. */
  tree: string;
  /** Has modprobe, for the guest's root. */
  tools: string;
  initramfs: Entry[];
}

/** Fetches and prepares a kernel of KERNELS; what was fetched before is kept. Throws Unavailable. */
export function prepareImage(cache: string, pattern: RegExp): Image {
  mkdirSync(cache, { recursive: true });
  const tools = join(cache, 'tools');
  fetchPackages(tools, ['busybox-static', 'kmod', 'libkmod2']);
  const name = newestPackage(pattern);
  const tree = join(cache, name);
  fetchPackages(tree, [name]);
  const [version = ''] = readdirSync(join(tree, 'lib/modules'));
  indexModules(tools, tree, version);
  const vmlinux = join(tree, 'vmlinux');
  if (!existsSync(vmlinux)) {
    const image = readFileSync(join(tree, `boot/vmlinuz-${version}`));
    writeFileSync(vmlinux, extractVmlinux(image));
  }
  return { version, vmlinux, tree, tools, initramfs: initramfs(tools, tree, version) };
}

function initramfs(tools: string, tree: string, version: string): Entry[] {
  const modules = rootModules(tree, version);
  const order = modules.map(({ name }) => `${name}\n`).join('');
  return [
    ...['bin', 'dev', 'lower', 'modules', 'over', 'proc', 'sys', 'system'].map((path) => ({
      path,
    })),
    { path: 'bin/busybox', contents: readFileSync(toolPath(tools, 'busybox')) },
    { path: 'init', contents: readFileSync(join(import.meta.dirname, 'init.sh')) },
    { path: 'modules/order', contents: Buffer.from(order) },
    ...modules.map(({ name, contents }) => ({ path: `modules/${name}`, contents })),
  ];
}
