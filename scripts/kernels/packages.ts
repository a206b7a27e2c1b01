import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** Something the machine lacks: the kernel is skipped, and this is the reason. */
export class Unavailable extends Error {}

/**
 * The newest package whose name matches, e.g. `^linux-image-6\.1\.0-\d+-cloud-amd64$`.
 * Throws Unavailable when no configured source has one.
 */
export function newestPackage(pattern: RegExp): string {
  const names = tool('apt-cache', [
    '--names-only',
    'search',
    pattern.source.replaceAll('\\d', '[0-9]'),
  ])
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((name) => pattern.test(name));
  const byVersion = new Intl.Collator('en', { numeric: true });
  const newest = names.sort(byVersion.compare).at(-1);
  if (!newest) throw new Unavailable(`no apt source has a package ${pattern.source}`);
  return newest;
}

/**
 * Downloads packages and unpacks them into `target`, once; nothing is installed. Throws
 * Unavailable when one cannot be had.
 */
export function fetchPackages(target: string, names: readonly string[]): void {
  if (existsSync(target)) return;
  const scratch = `${target}.part`;
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  tool('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', ...names], scratch);
  for (const deb of readdirSync(scratch).filter((file) => file.endsWith('.deb'))) {
    tool('dpkg-deb', ['-x', deb, '.'], scratch);
    rmSync(join(scratch, deb));
  }
  renameSync(scratch, target);
}

/** A program in an unpacked tree: Debian 13 moved them from /bin to /usr/bin. */
export function toolPath(tree: string, name: string): string {
  const usr = join(tree, 'usr/bin', name);
  return existsSync(usr) ? usr : join(tree, 'bin', name);
}

/** Runs a command and returns what it printed. Throws Unavailable with what it complained about. */
function tool(command: string, args: string[], cwd?: string): string {
  const { stdout, stderr, status, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (error) throw new Unavailable(`${command}: ${error.message}`);
  if (status !== 0) throw new Unavailable(`${command} ${args.at(-1)}: ${lastLine(stderr)}`);
  return stdout;
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? '';
}
