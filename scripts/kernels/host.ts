import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Unavailable } from './packages.ts';

/** Programs that this takes beside what `make setup` installs, and their packages. */
const PROGRAMS: readonly [program: string, packageName: string][] = [
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['lz4', 'lz4'],
  ['xz', 'xz-utils'],
  ['zstd', 'zstd'],
];
/** Debian 12 brings it with QEMU, later ones as a package of its own. */
const VIRTIOFSD = ['/usr/lib/qemu/virtiofsd', '/usr/libexec/virtiofsd'];

/** Installs what is missing on this machine. Throws Unavailable when that does not work. */
export function prepareHost(): void {
  if (process.arch !== 'x64') throw new Unavailable('only x86-64 kernels are known here');
  if (process.getuid?.() !== 0) throw new Unavailable('needs root');
  const missing = PROGRAMS.filter(([program]) => !isInstalled(program)).map(([, name]) => name);
  if (missing.length === 0) return;
  console.log(`installing ${missing.join(' ')}`);
  const options = ['-y', '-qq', '--no-install-recommends'];
  const { status, stderr } = spawnSync('apt-get', ['install', ...options, ...missing], {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (status !== 0) throw new Unavailable(`apt-get install ${missing.join(' ')}: ${stderr}`);
}

/** The server of the guest's root file system. Throws Unavailable. */
export function virtiofsd(): string {
  const found = VIRTIOFSD.find((path) => existsSync(path));
  if (!found) throw new Unavailable('virtiofsd is not installed');
  return found;
}

function isInstalled(program: string): boolean {
  const directories = (process.env.PATH ?? '').split(delimiter);
  return directories.some((directory) => existsSync(join(directory, program)));
}
