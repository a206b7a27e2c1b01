import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Everything a test makes on the machine carries this prefix, its process id, and a counter. */
const PREFIX = 'skt';
const NETNS = '/run/netns';

let count = 0;
const open = new Set<Scratch>();

/** Names and a directory for one topology; `removeSync` takes away whatever was made under it. */
export interface Scratch {
  prefix: string;
  directory: string;
  /** A bpffs of its own. */
  bpffs: string;
  removeSync(): void;
}

/** Makes a temporary directory with a bpffs in it. Removed at the latest when the process ends. */
export function createScratch(): Scratch {
  if (count === 0) {
    guardExit();
    removeLeftovers();
  }
  const prefix = `${PREFIX}-${process.pid}-${count++}`;
  const directory = mkdtempSync(join(tmpdir(), `${prefix}-`));
  const bpffs = join(directory, 'bpffs');
  mkdirSync(bpffs);
  const mounted = spawnSync('mount', ['-t', 'bpf', 'bpf', bpffs], { encoding: 'utf8' });
  const scratch: Scratch = {
    prefix,
    directory,
    bpffs,
    removeSync() {
      open.delete(scratch);
      removeNamespaces((name) => name.startsWith(`${prefix}-`));
      removeDirectory(directory);
    },
  };
  open.add(scratch);
  if (mounted.status !== 0) {
    scratch.removeSync();
    throw new Error(`cannot mount a bpffs: ${mounted.stderr ?? mounted.error}`);
  }
  return scratch;
}

/** Removes what test processes that no longer exist left behind. */
export function removeLeftovers(): void {
  removeNamespaces((name) => isOrphan(name));
  for (const name of readdirSync(tmpdir())) {
    if (isOrphan(name)) removeDirectory(join(tmpdir(), name));
  }
}

function isOrphan(name: string): boolean {
  const owner = new RegExp(`^${PREFIX}-(\\d+)-`).exec(name)?.[1];
  return owner !== undefined && !isAlive(Number(owner));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function removeNamespaces(isOurs: (name: string) => boolean): void {
  for (const name of listNamespaces().filter(isOurs)) {
    for (const pid of processesIn(name)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
    spawnSync('ip', ['netns', 'delete', name]);
  }
}

function processesIn(name: string): number[] {
  const { stdout } = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' });
  return stdout.split('\n').filter(Boolean).map(Number);
}

function listNamespaces(): string[] {
  try {
    return readdirSync(NETNS);
  } catch {
    return [];
  }
}

function removeDirectory(directory: string): void {
  const bpffs = join(directory, 'bpffs');
  if (readFileSync('/proc/self/mounts', 'utf8').includes(` ${bpffs} `)) {
    spawnSync('umount', [bpffs]);
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
}

function guardExit(): void {
  process.on('exit', () => {
    for (const scratch of open) scratch.removeSync();
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => process.exit(130));
  }
}
