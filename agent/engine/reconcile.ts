import { SekishoError } from '../lib/errors.ts';
import { FAMILIES, type Family, formatAddress, formatPrefix } from '../lib/ip.ts';
import type { DeviceRow } from '../tables/devices.ts';
import type { EndpointRow } from '../tables/endpoints.ts';
import type { PrefixRow } from '../tables/prefixes.ts';
import {
  type AttachOptions,
  attachHooks,
  DEVICE_HOOKS,
  ENDPOINT_HOOKS,
  type Hook,
  sweepAttachments,
} from './attach.ts';
import { endpointLinks } from './hook-watch.ts';
import type { Logger } from './logger.ts';
import type { Interface } from './network.ts';
import type { Plan } from './plan.ts';
import { diffRows, type RowChanges } from './rows.ts';

/** A map as typed rows. */
export interface RowTable<Row> {
  read(): Row[];
  set(row: Row): void;
  remove(row: Row): void;
}

/** The maps that hold rows, of one family. */
export interface FamilyTables {
  devices: RowTable<DeviceRow>;
  endpoints: RowTable<EndpointRow>;
  prefixes: RowTable<PrefixRow>;
  tunnelPeers: RowTable<Uint8Array>;
}

export interface ReconcileContext extends AttachOptions {
  tables: Record<Family, FamilyTables>;
  /**
   * Deletes every entry that names one of the addresses, with `leaving` all but what is closing;
   * resolves with their number.
   */
  scrub(addresses: Uint8Array[], mode: 'forced' | 'leaving'): Promise<number>;
  logger: Logger;
}

interface Changes {
  devices: RowChanges<DeviceRow>;
  endpoints: RowChanges<EndpointRow>;
  prefixes: RowChanges<PrefixRow>;
  tunnelPeers: RowChanges<Uint8Array>;
  /** Of the endpoints to set, those of pods that are new, or behind another interface so far. */
  moved: EndpointRow[];
}

/**
 * Makes maps and hooks what the plan says; the same plan again writes nothing. What protects is
 * there before what it protects: all rows but those of new endpoints, then the hooks of devices
 * (new programs take over in place, and find their rows), then the hooks of endpoints: what has no
 * row behind them is dropped. Only then new endpoints come. Removal comes last: hooks, then rows,
 * then the flows of addresses that have no owner any more. Those that are closing rest until their
 * timeout, so that their ports are not used while the other side is in TIME_WAIT.
 */
export async function reconcile(plan: Plan, context: ReconcileContext): Promise<void> {
  const changes = {
    ipv4: compare(plan, context, 'ipv4'),
    ipv6: compare(plan, context, 'ipv6'),
  };
  setRows(changes, context);
  for (const link of plan.devices) attachIfThere(link, DEVICE_HOOKS, context);
  const failure = attachEndpoints(plan, context);
  await moveAddresses(changes, context);
  if (failure) throw failure;
  sweepAttachments(context.bpffs, wantedHooks(plan), context.logger);
  await removeRows(changes, context);
}

/** All but those of new endpoints. */
function setRows(changes: Record<Family, Changes>, { tables }: ReconcileContext): void {
  for (const family of FAMILIES) {
    const { prefixes, devices, endpoints, tunnelPeers, moved } = changes[family];
    for (const row of tunnelPeers.set) tables[family].tunnelPeers.set(row);
    for (const row of prefixes.set) tables[family].prefixes.set(row);
    for (const row of devices.set) tables[family].devices.set(row);
    const staying = endpoints.set.filter((row) => !moved.includes(row));
    for (const row of staying) tables[family].endpoints.set(row);
  }
}

/** An address that moves has no owner while it is scrubbed: what it sends is dropped meanwhile. */
async function moveAddresses(
  changes: Record<Family, Changes>,
  context: ReconcileContext,
): Promise<void> {
  const { tables } = context;
  for (const family of FAMILIES) {
    for (const row of changes[family].moved) tables[family].endpoints.remove(row);
  }
  const moved = FAMILIES.flatMap((family) => changes[family].moved.map(({ addr }) => addr));
  await scrubAndLog(moved, 'forced', context, 'addresses of new endpoints scrubbed');
  for (const family of FAMILIES) {
    for (const row of changes[family].moved) tables[family].endpoints.set(row);
  }
}

async function removeRows(
  changes: Record<Family, Changes>,
  context: ReconcileContext,
): Promise<void> {
  const { tables } = context;
  const left: Uint8Array[] = [];
  for (const family of FAMILIES) {
    for (const row of changes[family].endpoints.remove) {
      tables[family].endpoints.remove(row);
      if (row.endpoint.ifindex !== 0) left.push(row.addr);
    }
    for (const row of changes[family].prefixes.remove) tables[family].prefixes.remove(row);
    for (const row of changes[family].devices.remove) tables[family].devices.remove(row);
    for (const row of changes[family].tunnelPeers.remove) tables[family].tunnelPeers.remove(row);
  }
  await scrubAndLog(left, 'leaving', context, 'flows of removed endpoints deleted');
}

/** One that fails keeps no other endpoint out: the first failure is handed back. */
function attachEndpoints(plan: Plan, context: ReconcileContext): unknown {
  let failure: unknown;
  for (const link of endpointLinks(plan)) {
    try {
      attachIfThere(link, ENDPOINT_HOOKS, context);
    } catch (error) {
      failure ??= error;
    }
  }
  return failure;
}

/** An interface may go at any time; the network watch then brings the next plan. */
function attachIfThere(
  { ifindex, name }: Interface,
  hooks: readonly Hook[],
  context: ReconcileContext,
): void {
  try {
    attachHooks(context, ifindex, hooks);
  } catch (error) {
    if (!(error instanceof SekishoError) || error.code !== 'E_NO_INTERFACE') throw error;
    context.logger.warn(
      { ifindex, interface: name },
      'interface went before it could be attached to',
    );
  }
}

function compare(plan: Plan, { tables }: ReconcileContext, family: Family): Changes {
  const { devices, endpoints, prefixes, tunnelPeers } = plan.rows[family];
  const actual = tables[family];
  const placed = actual.endpoints.read();
  return {
    devices: diffRows(devices, actual.devices.read(), ({ ifindex }) => `${ifindex}`, deviceText),
    endpoints: diffRows(
      endpoints,
      placed,
      ({ addr }) => formatAddress(addr),
      ({ endpoint: { ifindex, id, identity, flags, mtu } }) =>
        [ifindex, id, identity, flags, mtu].join(),
    ),
    prefixes: diffRows(
      prefixes,
      actual.prefixes.read(),
      ({ prefix }) => formatPrefix(prefix),
      ({ flags, tunnel }) => `${flags} ${tunnel}`,
    ),
    tunnelPeers: diffRows(tunnelPeers, actual.tunnelPeers.read(), formatAddress, () => ''),
    moved: movedRows(placed, endpoints),
  };
}

function deviceText({ addr, port_min, port_max, flags, tunnel_addr }: DeviceRow): string {
  return [formatAddress(addr), port_min, port_max, flags, tunnel_addr].join();
}

/** Rows of pods whose address no row, or one of another interface, stands for so far. */
function movedRows(before: EndpointRow[], rows: EndpointRow[]): EndpointRow[] {
  const owners = new Map(before.map((row) => [formatAddress(row.addr), row.endpoint.ifindex]));
  return rows.filter(
    ({ addr, endpoint }) =>
      endpoint.ifindex !== 0 && owners.get(formatAddress(addr)) !== endpoint.ifindex,
  );
}

function wantedHooks(plan: Plan): (ifindex: number, hook: Hook) => boolean {
  const devices = new Set(plan.devices.map((link) => link.ifindex));
  const endpoints = new Set(plan.endpoints.map(({ link }) => link.ifindex));
  return (ifindex, hook) =>
    DEVICE_HOOKS.includes(hook) ? devices.has(ifindex) : endpoints.has(ifindex);
}

async function scrubAndLog(
  addresses: Uint8Array[],
  mode: 'forced' | 'leaving',
  { scrub, logger }: ReconcileContext,
  message: string,
): Promise<void> {
  if (addresses.length === 0) return;
  const deleted = await scrub(addresses, mode);
  logger.info({ addresses: addresses.map(formatAddress), deleted }, message);
}
