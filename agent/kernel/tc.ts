import { KernelError, SekishoError } from '../lib/errors.ts';
import { EEXIST, EINVAL, ENODEV, ENOENT } from './error.ts';
import { HANDLE } from './handle.ts';
import { type Direction, noInterface } from './link.ts';
import { attribute, NETLINK_FLAGS, netlink, readAttributes, readText } from './netlink.ts';
import type { BpfProgram } from './program.ts';

/** One filter of classic TC. */
export interface TcFilter {
  /** Filters run from the lowest number on. */
  priority: number;
  handle: number;
  /** EtherType, or ETH_P_ALL. */
  protocol: number;
  /** Classifier: `bpf`, `flower`, …. */
  kind: string;
  /** As whoever made it called it; bpf only. */
  name?: string;
  /** Bpf only. */
  programId?: number;
}

/** Where a filter stands, or is to stand. */
export interface TcHook {
  ifindex: number;
  direction: Direction;
}

const RTM = {
  newQdisc: 36,
  deleteQdisc: 37,
  getQdisc: 38,
  newFilter: 44,
  deleteFilter: 45,
  getFilter: 46,
};
const TCA = { kind: 1, options: 2 };
const TCA_BPF = { fd: 6, name: 7, flags: 8, id: 11 };
const DIRECT_ACTION = 1;
const TCMSG_SIZE = 20;
const ETH_P_ALL = 3;
const CLSACT = { parent: 0xfffffff1, handle: 0xffff0000 };
const PARENTS: Record<Direction, number> = { ingress: 0xfffffff2, egress: 0xfffffff3 };
const { create, dump, echo, exclusive, replace } = NETLINK_FLAGS;

/** The filters of a hook, first to run first; none where there is no clsact, or no interface. */
export function listFilters({ ifindex, direction }: TcHook): TcFilter[] {
  const body = tcMessage({ ifindex, parent: PARENTS[direction] });
  const operation = `list the filters of interface ${ifindex}`;
  const request = { type: RTM.getFilter, flags: dump, body };
  const answers = ignoring([ENODEV, EINVAL], () => netlink(request, operation)) ?? [];
  return answers.map(readFilter).filter(({ handle }) => handle !== 0);
}

/**
 * Puts a program onto a hook as a filter of that name, for every protocol. One that has the name
 * already gets the program in one step: no packet meets an empty hook. A new one runs as early
 * as filters of other kinds allow. Makes the clsact qdisc where it is missing. Throws
 * E_NO_INTERFACE.
 */
export function attachTc(program: BpfProgram, hook: TcHook, name: string): void {
  addClsact(hook.ifindex, program.name);
  const filters = listFilters(hook);
  const own = filters.find((filter) => isNamed(filter, name));
  const { priority, handle } = own ?? freePlace(filters);
  const body = Buffer.concat([
    tcMessage({ ...hook, parent: PARENTS[hook.direction], handle, info: infoOf(priority) }),
    attribute(TCA.kind, 'bpf'),
    attribute(TCA.options, [
      attribute(TCA_BPF.fd, program[HANDLE].fd),
      attribute(TCA_BPF.name, name),
      attribute(TCA_BPF.flags, DIRECT_ACTION),
    ]),
  ]);
  const flags = own ? replace : create | exclusive;
  netlink(
    { type: RTM.newFilter, flags, body },
    `attach ${program.name} to ${hook.direction} of interface ${hook.ifindex}`,
  );
}

/**
 * Removes the filters of that name from a hook, and the clsact qdisc when no filter of anybody is
 * left on it. False when there was none.
 */
export function detachTc(hook: TcHook, name: string): boolean {
  const own = listFilters(hook).filter((filter) => isNamed(filter, name));
  for (const { priority, handle } of own) {
    const parent = PARENTS[hook.direction];
    const body = Buffer.concat([
      tcMessage({ ...hook, parent, handle, info: infoOf(priority) }),
      attribute(TCA.kind, 'bpf'),
    ]);
    const operation = `remove a filter of interface ${hook.ifindex}`;
    ignoring([ENOENT, ENODEV], () =>
      netlink({ type: RTM.deleteFilter, flags: 0, body }, operation),
    );
  }
  if (own.length > 0) removeUnusedClsact(hook.ifindex);
  return own.length > 0;
}

function isNamed(filter: TcFilter, name: string): boolean {
  return filter.kind === 'bpf' && filter.name === name;
}

function addClsact(ifindex: number, program: string): void {
  const body = clsactMessage(ifindex);
  const request = { type: RTM.newQdisc, flags: create | exclusive, body };
  try {
    netlink(request, `add a clsact qdisc to interface ${ifindex}`);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (error.errno === ENODEV) throw noInterface(ifindex, program);
    if (error.errno !== EEXIST) throw error;
    requireClsact(ifindex);
  }
}

/** Throws E_CONFLICT when another qdisc stands where `attachTc` would make a clsact one. */
export function refuseOtherQdisc(ifindex: number): void {
  ignoring([ENOENT, EINVAL, ENODEV], () => requireClsact(ifindex));
}

/** An ingress qdisc takes filters for egress too, and runs them on ingress. */
function requireClsact(ifindex: number): void {
  const request = { type: RTM.getQdisc, flags: echo, body: tcMessage({ ifindex, ...CLSACT }) };
  const [answer] = netlink(request, `read the clsact qdisc of interface ${ifindex}`);
  const kind = answer && readAttributes(answer, TCMSG_SIZE).get(TCA.kind);
  if (!kind || readText(kind) === 'clsact') return;
  throw new SekishoError(
    'E_CONFLICT',
    `interface ${ifindex} has a qdisc ${readText(kind)} where clsact must be`,
    { hint: `remove it: tc qdisc del dev … ${readText(kind)}` },
  );
}

function removeUnusedClsact(ifindex: number): void {
  const directions = ['ingress', 'egress'] as const;
  if (directions.some((direction) => listFilters({ ifindex, direction }).length > 0)) return;
  const request = { type: RTM.deleteQdisc, flags: 0, body: clsactMessage(ifindex) };
  const operation = `remove the clsact qdisc of interface ${ifindex}`;
  ignoring([ENOENT, EINVAL, ENODEV], () => netlink(request, operation));
}

function clsactMessage(ifindex: number): Uint8Array {
  return Buffer.concat([tcMessage({ ifindex, ...CLSACT }), attribute(TCA.kind, 'clsact')]);
}

/** A priority belongs to one classifier and protocol; a handle to one filter of it. */
function freePlace(filters: readonly TcFilter[]): { priority: number; handle: number } {
  const fits = ({ kind, protocol }: TcFilter) => kind === 'bpf' && protocol === ETH_P_ALL;
  const barred = new Set(filters.filter((filter) => !fits(filter)).map((other) => other.priority));
  let priority = 1;
  while (barred.has(priority)) priority++;
  const beside = filters.filter((filter) => filter.priority === priority);
  const taken = new Set(beside.map((filter) => filter.handle));
  let handle = 1;
  while (taken.has(handle)) handle++;
  return { priority, handle };
}

/** struct tcmsg. */
function tcMessage(fields: {
  ifindex: number;
  parent: number;
  handle?: number;
  info?: number;
}): Uint8Array {
  const bytes = new Uint8Array(TCMSG_SIZE);
  const view = new DataView(bytes.buffer);
  view.setInt32(4, fields.ifindex, true);
  view.setUint32(8, fields.handle ?? 0, true);
  view.setUint32(12, fields.parent, true);
  view.setUint32(16, fields.info ?? 0, true);
  return bytes;
}

/** Priority in the upper half, the protocol in network order in the lower one. */
function infoOf(priority: number): number {
  return ((priority << 16) | swapped(ETH_P_ALL)) >>> 0;
}

function readFilter(view: DataView): TcFilter {
  const info = view.getUint32(16, true);
  const attributes = readAttributes(view, TCMSG_SIZE);
  const [kind, options] = [attributes.get(TCA.kind), attributes.get(TCA.options)];
  const filter: TcFilter = {
    priority: info >>> 16,
    handle: view.getUint32(8, true),
    protocol: swapped(info & 0xffff),
    kind: kind ? readText(kind) : '',
  };
  if (filter.kind !== 'bpf' || !options) return filter;
  const own = readAttributes(options);
  const [name, id] = [own.get(TCA_BPF.name), own.get(TCA_BPF.id)];
  if (name) filter.name = readText(name);
  if (id) filter.programId = id.getUint32(0, true);
  return filter;
}

function swapped(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

/** Undefined where the kernel answered with one of these errors. */
function ignoring<T>(errors: readonly number[], action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof KernelError && errors.includes(error.errno)) return undefined;
    throw error;
  }
}
