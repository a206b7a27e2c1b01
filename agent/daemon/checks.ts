import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config } from '../config/schema.ts';
import type { AttachMode } from '../engine/attach.ts';
import { readNetwork } from '../engine/ip-tool.ts';
import { checkMasqueradeAddresses, type Interface, selectDevices } from '../engine/network.ts';
import { type Capabilities, probeCapabilities } from '../kernel/capabilities.ts';
import { isBpffs } from '../kernel/fs.ts';
import { ConfigError, SekishoError } from '../lib/errors.ts';

const USUAL_BPFFS = '/sys/fs/bpf';

/** Throws for the first thing that the machine or the process lacks; changes nothing. */
export function checkMachine(bpffs: string): Capabilities {
  const capabilities = probeCapabilities();
  const { btf } = capabilities;
  const missing = missingPrivilege(capabilities);
  if (missing) {
    throw new SekishoError('E_PRIVILEGE', `the capability ${missing} is missing`, {
      hint: 'run it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON',
    });
  }
  if (!btf) {
    throw new SekishoError('E_NO_BTF', 'the kernel carries no BTF', {
      hint: 'it must be built with CONFIG_DEBUG_INFO_BTF',
    });
  }
  checkBpffs(bpffs);
  return capabilities;
}

/** TCX where the kernel has it, unless TC is asked for. Throws ConfigError when it cannot be. */
export function chooseAttach({ attach }: Config['datapath'], { tcx }: Capabilities): AttachMode {
  if (attach === 'tcx' && !tcx) {
    throw new ConfigError(
      'the kernel has no TCX hooks',
      { path: 'datapath.attach' },
      { hint: 'use auto: Linux 6.6 or later has them' },
    );
  }
  if (attach === 'auto') return tcx ? 'tcx' : 'tc';
  return attach;
}

/**
 * The devices that the configuration leads to. Throws for what it asks of a network that does
 * not have it.
 */
export async function checkAgainstNetwork({ node, masquerade }: Config): Promise<Interface[]> {
  const network = await readNetwork();
  const devices = selectDevices(network, node.devices);
  checkMasqueradeAddresses(network, masquerade.addresses);
  return devices;
}

function missingPrivilege(held: Capabilities): string | undefined {
  if (!held.bpfPrivilege) return 'CAP_BPF';
  if (!held.perfmonPrivilege) return 'CAP_PERFMON';
  return held.netAdminPrivilege ? undefined : 'CAP_NET_ADMIN';
}

function checkBpffs(directory: string): void {
  let existing = directory;
  while (!existsSync(existing)) existing = dirname(existing);
  if (isBpffs(existing)) return;
  throw new SekishoError('E_NO_BPFFS', `${directory} is not on a BPF file system`, {
    hint: `mount -t bpf bpf ${directory.startsWith(USUAL_BPFFS) ? USUAL_BPFFS : directory}`,
  });
}
