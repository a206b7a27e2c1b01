import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { areFiltersElsewhere, detachAll } from '../engine/attach.ts';
import { sharedPins } from '../engine/pins.ts';
import { isBpffs, lockFile, lockPath, unpin, withPrivilege } from '../kernel/fs.ts';
import { SekishoError } from '../lib/errors.ts';
import { FAMILIES } from '../lib/ip.ts';
import { configOf } from './context.ts';
import { createOutput, writeLines } from './output.ts';

const LOCK = 'agent.lock';
const RUN_FILES = ['agent.sock', 'endpoints.json', 'services.json', LOCK] as const;

export function register(program: Command): void {
  program
    .command('cleanup')
    .description('detach everything, unpin everything; traffic is no longer translated')
    .option('--force', 'also when no hook is in this network namespace')
    .action(cleanup);
}

async function cleanup({ force }: { force?: boolean }, command: Command): Promise<void> {
  const { bpffs, runDir } = configOf(command).state;
  const leftovers = RUN_FILES.map((name) => join(runDir, name)).filter(existsSync);
  using run = lockAgainstAgent(runDir, () => lockFile(join(runDir, LOCK)));
  using pins = lockAgainstAgent(bpffs, () => lockPath(bpffs));
  void [run, pins];
  if (!force) withPrivilege(() => refuseElsewhere(bpffs));
  const removed = withPrivilege(() => removePins(bpffs));
  rmSync(join(runDir, LOCK), { force: true });
  for (const path of leftovers) {
    rmSync(path, { force: true });
    removed.push(`removed ${path}`);
  }
  const out = createOutput();
  await writeLines(out, removed.length > 0 ? removed : ['nothing to remove']);
}

/** Keeps an agent from starting with this directory meanwhile. Throws E_LOCKED while one runs. */
function lockAgainstAgent(directory: string, take: () => Disposable | undefined): Disposable {
  if (!existsSync(directory)) return { [Symbol.dispose]() {} };
  const lock = withPrivilege(take);
  if (lock) return lock;
  throw new SekishoError('E_LOCKED', 'an agent is running', {
    hint: 'stop it first: systemctl stop sekisho',
  });
}

/** Without its pins, a filter of another network namespace would be nobody's. Throws E_CONFLICT. */
function refuseElsewhere(bpffs: string): void {
  if (!areFiltersElsewhere(bpffs)) return;
  throw new SekishoError('E_CONFLICT', 'none of the hooks is in this network namespace', {
    hint: "run it in the agent's, or with --force if that, or every hook, is gone",
  });
}

/** Removes what the project pins and nothing else: the directory may be shared. */
function removePins(bpffs: string): string[] {
  if (!existsSync(bpffs)) return [];
  if (!isBpffs(bpffs)) {
    throw new SekishoError('E_NO_BPFFS', `${bpffs} is not on a BPF file system`, {
      hint: 'check state.bpffs in the configuration',
    });
  }
  const links = join(bpffs, 'links');
  const removed = detachAll(bpffs).map(
    ({ path, detached }) => `${detached ? 'detached' : 'unpinned'} ${path}`,
  );
  for (const family of FAMILIES) {
    for (const path of pinsIn(join(bpffs, family)))
      if (unpin(path)) removed.push(`unpinned ${path}`);
  }
  for (const path of sharedPins(bpffs)) {
    if (existsSync(path) && unpin(path)) removed.push(`unpinned ${path}`);
  }
  for (const directory of [links, ...FAMILIES.map((family) => join(bpffs, family)), bpffs]) {
    if (removeIfEmpty(directory)) removed.push(`removed ${directory}`);
  }
  return removed;
}

function pinsIn(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory).map((name) => join(directory, name));
}

/** A directory that something else uses, or a mount point, stays. */
function removeIfEmpty(directory: string): boolean {
  try {
    rmdirSync(directory);
    return true;
  } catch {
    return false;
  }
}
