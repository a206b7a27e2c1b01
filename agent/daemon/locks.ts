import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { lockFile, lockHolder, lockPath, withPrivilege } from '../kernel/fs.ts';
import { SekishoError } from '../lib/errors.ts';

const NAMESPACE = '/proc/self/ns/net';

/**
 * Makes sure that this is the only agent of its run directory and of its network namespace.
 * Throws E_LOCKED, and E_PRIVILEGE when the directory cannot be written.
 */
export function lockAgent(runDir: string): Disposable {
  using stack = new DisposableStack();
  const file = `${runDir}/agent.lock`;
  const own = withPrivilege(() => {
    mkdirSync(runDir, { recursive: true, mode: 0o755 });
    return lockFile(file);
  });
  stack.use(own ?? refuse('another agent is running', file));
  stack.use(
    lockPath(NAMESPACE) ?? refuse('another agent runs in this network namespace', NAMESPACE),
  );
  return stack.move();
}

/**
 * Makes sure that no other agent uses these pins, from whatever namespace. The directory is made
 * when missing; an empty one goes when the lock does. Throws E_LOCKED, and E_PRIVILEGE when it
 * cannot be written.
 */
export function lockPins(bpffs: string): Disposable {
  withPrivilege(() => makeDirectory(bpffs));
  const lock = lockPath(bpffs) ?? refuse(`another agent uses the pins in ${bpffs}`, bpffs);
  return {
    [Symbol.dispose]() {
      removeIfEmpty(bpffs);
      lock[Symbol.dispose]();
    },
  };
}

/** What a recursive mkdir of Node.js calls ENOENT may be a read-only file system. */
function makeDirectory(directory: string): void {
  if (existsSync(directory)) return;
  makeDirectory(dirname(directory));
  mkdirSync(directory, { mode: 0o700 });
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // Something is pinned there, or it is a mount point.
  }
}

function refuse(message: string, path: string): never {
  const pid = lockHolder(path);
  const holder = pid === undefined ? 'it' : `process ${pid}`;
  throw new SekishoError('E_LOCKED', message, { hint: `${holder} holds the lock on ${path}` });
}
