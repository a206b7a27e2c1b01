import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { cpio } from './cpio.ts';
import { virtiofsd } from './host.ts';
import type { Image } from './image.ts';

export interface BootOptions {
  /** Directory of the project, the same in the guest. */
  repo: string;
  /** A shell command, run by root in that directory. */
  command: string;
  /** Milliseconds until the guest is given up. */
  limit: number;
  print(line: string): void;
}

export interface Outcome {
  /** The command's exit status; undefined when the guest ended without one. */
  code: number | undefined;
  /** The end of the kernel's console. */
  console: string;
}

const TRAILER = /^\[guest\] exit=(\d+)$/;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const MEMORY = '4096M';
/** Without protection keys: V8 guards its code with them, and lost count of it here. */
const CPU = 'max,pku=off';

/**
 * Boots a kernel with this machine's root below a tmpfs, and runs a command in it. Emulated
 * (TCG), since a nested guest cannot count on KVM. Nothing that the guest writes reaches the host.
 */
export async function boot(image: Image, options: BootOptions): Promise<Outcome> {
  const scratch = mkdtempSync(join(tmpdir(), 'sekisho-kernel-'));
  const children: ChildProcess[] = [];
  const cleanUp = () => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(scratch, { recursive: true, force: true });
  };
  const interrupted = () => {
    cleanUp();
    process.exit(130);
  };
  for (const signal of SIGNALS) process.once(signal, interrupted);
  try {
    const initramfs = join(scratch, 'initramfs');
    writeFileSync(initramfs, cpio([...image.initramfs, guestScript(image, options)]));
    const socket = join(scratch, 'fs.sock');
    children.push(shareRoot(scratch, socket, options.repo));
    await until(() => existsSync(socket), children[0]);
    const console = join(scratch, 'console');
    const qemu = startQemu(image, initramfs, socket, console);
    children.push(qemu);
    const code = await follow(qemu, options);
    return { code, console: readFileSync(console, 'utf8').split('\n').slice(-40).join('\n') };
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupted);
    cleanUp();
  }
}

function guestScript(image: Image, { repo, command }: BootOptions) {
  const variables = { REPO: repo, TREE: image.tree, TOOLS: image.tools, COMMAND: command };
  const quoted = Object.entries(variables).map(
    ([name, value]) => `${name}='${value.replaceAll("'", "'\\''")}'\n`,
  );
  const script = readFileSync(join(import.meta.dirname, 'guest.sh'), 'utf8');
  return { path: 'guest.sh', contents: Buffer.from(quoted.join('') + script) };
}

/** In a mount namespace where the root, and the project if it is another mount, are read only. */
function shareRoot(scratch: string, socket: string, repo: string): ChildProcess {
  const script = `
    share=${scratch}/root; mkdir $share
    mount --bind / $share; mount -o remount,bind,ro $share
    mount --bind "$1" "$share$1"; mount -o remount,bind,ro "$share$1"
    exec ${virtiofsd()} --socket-path=${socket} -o source=$share -o cache=always -o sandbox=chroot`;
  return spawn(
    'unshare',
    ['--mount', '--propagation', 'private', 'sh', '-ec', script, 'sh', repo],
    { stdio: ['ignore', 'ignore', 'ignore'] },
  );
}

async function until(condition: () => boolean, child: ChildProcess | undefined): Promise<void> {
  while (!condition()) {
    if (child?.exitCode !== null) throw new Error('virtiofsd ended before the guest began');
    await sleep(20);
  }
}

function startQemu(image: Image, initramfs: string, socket: string, console: string): ChildProcess {
  const args = [
    ...['-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', CPU, '-smp', '2'],
    ...['-m', MEMORY, '-object', `memory-backend-memfd,id=memory,size=${MEMORY},share=on`],
    ...['-numa', 'node,memdev=memory', '-nodefaults', '-no-reboot', '-display', 'none'],
    ...['-kernel', image.vmlinux, '-initrd', initramfs],
    ...['-append', 'console=ttyS0 quiet panic=-1 nokaslr mitigations=off'],
    ...['-chardev', `file,id=console,path=${console}`, '-serial', 'chardev:console'],
    ...['-chardev', 'stdio,id=out,signal=off', '-device', 'virtio-serial-pci'],
    ...['-device', 'virtserialport,chardev=out'],
    ...['-chardev', `socket,id=root,path=${socket}`],
    ...['-device', 'vhost-user-fs-pci,chardev=root,tag=root'],
  ];
  // With its input at an end, the port counts as unplugged, and the guest would wait for it.
  return spawn('qemu-system-x86_64', args, { stdio: ['pipe', 'pipe', 'inherit'] });
}

/** Prints what the guest says until it ends; its trailer is the exit status. */
async function follow(qemu: ChildProcess, { limit, print }: BootOptions) {
  let code: number | undefined;
  const timer = setTimeout(() => {
    print(`[host] given up after ${limit / 60_000} min`);
    qemu.kill('SIGKILL');
  }, limit);
  const ended = once(qemu, 'exit');
  if (qemu.stdout) {
    for await (const line of createInterface(qemu.stdout)) {
      const trailer = TRAILER.exec(line);
      if (trailer) code = Number(trailer[1]);
      else print(line);
    }
  }
  await ended;
  clearTimeout(timer);
  return code;
}
