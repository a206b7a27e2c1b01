import type { Family } from '../lib/ip.ts';
import type { BackendState } from '../tables/names.ts';
import type { PinnedBackend } from './backend-pins.ts';
import type { KnownServices } from './known-services.ts';
import { frontendWord } from './service-lines.ts';
import type { Cell } from './text-table.ts';

/** A backend as listings show it. What only the daemon knows is null without it. */
export interface ListedBackend {
  id: number;
  /** Name of its service. */
  service: string | null;
  serviceId: number;
  family: Family;
  address: string;
  port: number;
  protocol: string;
  state: BackendState;
  weight: number | null;
  /** New connections since it is there. */
  connections: number;
}

/** A backend of the datapath, with what the daemon knows of it and what was counted. */
export function describeBackend(
  pinned: PinnedBackend,
  known: KnownServices | undefined,
  connections: number,
): ListedBackend {
  const { id, family, serviceId, address, port, protocol, state } = pinned;
  return {
    id,
    service: known?.byId(serviceId)?.name ?? null,
    serviceId,
    family,
    address,
    port,
    protocol,
    state,
    weight: known?.weightOf(id) ?? null,
    connections,
  };
}

export const BACKEND_HEADING = [
  'ID',
  'SERVICE',
  'BACKEND',
  'STATE',
  'WEIGHT',
  'CONNECTIONS',
] as const;

export function backendCells(backend: ListedBackend): Cell[] {
  const { id, service, serviceId, state, weight, connections } = backend;
  return [id, service ?? `#${serviceId}`, frontendWord(backend), state, weight ?? '-', connections];
}
