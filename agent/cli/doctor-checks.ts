import { existsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { readNetwork } from '../engine/ip-tool.ts';
import { selectDevices } from '../engine/network.ts';
import { objectPath } from '../engine/objects.ts';
import type { Capabilities } from '../kernel/capabilities.ts';
import { probeCapabilities } from '../kernel/capabilities.ts';
import { isBpffs } from '../kernel/fs.ts';
import { SekishoError } from '../lib/errors.ts';
import { limitChecks } from './doctor-limits.ts';
import { readProc } from './proc.ts';

/** One thing that a machine has or lacks. */
export interface Check {
  name: string;
  ok: boolean;
  /** Without it nothing works. */
  required: boolean;
  /** What was found. */
  detail: string;
  /** What to do when it is not ok. */
  fix: string;
}

type Feature = Exclude<keyof Capabilities, 'possibleCpus' | 'hz'>;

const FEATURES: readonly [Feature, name: string, required: boolean, fix: string][] = [
  ['bpfPrivilege', 'CAP_BPF', true, 'run as root'],
  ['perfmonPrivilege', 'CAP_PERFMON', true, 'run as root'],
  ['netAdminPrivilege', 'CAP_NET_ADMIN', true, 'run as root'],
  ['btf', 'kernel BTF', true, 'use a kernel built with CONFIG_DEBUG_INFO_BTF'],
  ['tcx', 'TCX links', false, 'use a kernel from 6.6; classic TC serves without'],
  ['syscallPrograms', 'SYSCALL programs', true, 'use a kernel from 5.14'],
  ['mmapableArrays', 'mmapable arrays', true, 'use a kernel from 5.5'],
  ['jiffies64', 'bpf_jiffies64', true, 'use a kernel from 5.6'],
  ['redirectPeer', 'bpf_redirect_peer', true, 'use a kernel from 5.10'],
  ['redirectNeigh', 'bpf_redirect_neigh', true, 'use a kernel from 5.10'],
  ['socketLookup', 'bpf_skc_lookup_tcp', true, 'use a kernel from 5.2'],
  ['batch', 'map batch operations', false, 'use a kernel from 5.6; listings are slower without'],
  ['fibSkipNeigh', 'FIB lookup without neighbour', false, 'use a kernel from 6.3'],
  ['csumIpv6', 'IPv6 checksum flag', false, 'use a kernel from 6.16'],
];

/** What can be told without any privilege; the rest is found out by trying. */
const PLAIN = new Set<Feature>(['bpfPrivilege', 'perfmonPrivilege', 'netAdminPrivilege', 'btf']);

/** Looks at everything the agent needs. `configOf` gives the configuration and may throw. */
export async function checkMachine(configOf: () => Config): Promise<Check[]> {
  return [
    nodeVersion(),
    ...kernelChecks(),
    ...pinDirectory(configOf),
    builtObjects(),
    tool(['ip'], true, 'install iproute2'),
    tool(['clang-19', 'clang'], false, 'install clang-19; only make build needs it'),
    tool(['bpftool'], false, 'install bpftool; only to look at maps and programs by hand'),
    ...(await devices(configOf)),
    forwarding('IPv4 forwarding', 'net/ipv4/ip_forward'),
    forwarding('IPv6 forwarding', 'net/ipv6/conf/all/forwarding'),
    ...limitChecks(configOf),
  ];
}

function nodeVersion(): Check {
  const version = process.versions.node;
  const ok = Number.parseInt(version, 10) >= 24;
  return { name: 'Node.js', ok, required: true, detail: version, fix: 'run make setup' };
}

const UNKNOWN = { ok: false, detail: 'cannot be told', fix: 'run as root' };

/** Without libbpf nothing about the kernel can be told. */
function kernelChecks(): Check[] {
  const library = { name: 'libbpf', required: true, fix: 'install libbpf1 (libbpf.so.1)' };
  try {
    const found = probeCapabilities();
    const mayTry = found.bpfPrivilege && found.netAdminPrivilege;
    const features = FEATURES.map(([key, name, required, fix]) => {
      const check = { name, required, ok: found[key], detail: found[key] ? 'yes' : 'no', fix };
      return mayTry || PLAIN.has(key) ? check : { ...check, ...UNKNOWN };
    });
    return [{ ...library, ok: true, detail: 'loaded' }, ...features];
  } catch (error) {
    return [{ ...library, ok: false, detail: messageOf(error) }];
  }
}

function pinDirectory(configOf: () => Config): Check[] {
  try {
    const directory = configOf().state.bpffs;
    const mounted = isBpffs(nearestExisting(directory));
    const detail = `${directory} is ${mounted ? '' : 'not '}on a BPF file system`;
    const fix = 'mount -t bpf bpf /sys/fs/bpf';
    return [
      { name: 'configuration', ok: true, required: true, detail: 'valid', fix: '' },
      { name: 'BPF file system', ok: mounted, required: true, detail, fix },
    ];
  } catch (error) {
    const fix = 'sekisho config check lists every problem';
    return [{ name: 'configuration', ok: false, required: true, detail: messageOf(error), fix }];
  }
}

/** Those that the agent would start with; none to tell of without a configuration. */
async function devices(configOf: () => Config): Promise<Check[]> {
  const name = 'north-south devices';
  const wanted = configuredDevices(configOf);
  if (!wanted) return [];
  const fix = 'name the Ethernet interfaces that lead out in node.devices';
  try {
    const found = selectDevices(await readNetwork(), wanted).map((link) => link.name);
    const detail = found.join(', ') || 'none, and no default route leads to one';
    return [{ name, ok: found.length > 0, required: false, detail, fix }];
  } catch (error) {
    const hint = error instanceof SekishoError ? error.hint : undefined;
    return [{ name, ok: false, required: true, detail: messageOf(error), fix: hint ?? fix }];
  }
}

function configuredDevices(configOf: () => Config): readonly string[] | undefined {
  try {
    return configOf().node.devices;
  } catch {
    return undefined;
  }
}

function builtObjects(): Check {
  const names = ['ipv4', 'ipv6'].flatMap((family) => [`${family}.bpf.o`, `${family}-reap.bpf.o`]);
  const missing = names.filter((name) => !isBuilt(name));
  return {
    name: 'BPF objects',
    ok: missing.length === 0,
    required: true,
    detail: missing.length === 0 ? 'built' : `missing: ${missing.join(', ')}`,
    fix: 'run make build',
  };
}

function isBuilt(name: string): boolean {
  try {
    return existsSync(objectPath(name));
  } catch {
    return false;
  }
}

/** The first of several names that is there. */
function tool(names: readonly string[], required: boolean, fix: string): Check {
  const places = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  const candidates = names.flatMap((name) => places.map((place) => join(place, name)));
  const found = candidates.find((path) => existsSync(path));
  const name = names.at(-1) ?? '';
  return { name, ok: found !== undefined, required, detail: found ?? 'not found', fix };
}

function forwarding(name: string, setting: string): Check {
  const key = setting.replaceAll('/', '.');
  const value = readProc(`/proc/sys/${setting}`);
  return {
    name,
    ok: value === '1',
    required: false,
    detail: `${key} = ${value}`,
    fix: `sysctl -w ${key}=1`,
  };
}

function nearestExisting(path: string): string {
  return existsSync(path) || path === '/' ? path : nearestExisting(dirname(path));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
