import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { EndpointSpec } from '../engine/plan.ts';
import { SekishoError } from '../lib/errors.ts';
import { formatAddress, parseAddress } from '../lib/ip.ts';
import { readStored } from './stored.ts';

const FILE = 'endpoints.json';
const WHAT = 'endpoints that were added while running';

const storedSchema = z.object({
  version: z.literal(1),
  endpoints: z.array(
    z.object({
      name: z.string(),
      interface: z.string(),
      addresses: z.array(z.string()),
      id: z.number().int().positive(),
      source: z.enum(['config', 'api']),
    }),
  ),
});

/** Where an endpoint came from; only `api` ones are added and deleted while running. */
export type EndpointSource = 'config' | 'api';

export interface StoredEndpoint extends EndpointSpec {
  source: EndpointSource;
}

export type EndpointRequest = Omit<EndpointSpec, 'id'>;

/** The endpoints of this node, by name, on disk after every change. */
export interface EndpointStore {
  /** As an earlier run left them. */
  before: readonly StoredEndpoint[];
  list(): StoredEndpoint[];
  get(name: string): StoredEndpoint | undefined;
  /**
   * Adds an endpoint; the same one again changes nothing. Throws E_CONFLICT when the name or an
   * address is another's.
   */
  add(request: EndpointRequest): StoredEndpoint;
  /** Throws E_NOT_FOUND, and E_CONFLICT for one of the configuration. */
  remove(name: string): StoredEndpoint;
  /** Puts others in place of the configuration's endpoints; what it returns takes that back. */
  configure(configured: readonly EndpointRequest[]): () => void;
}

/** Reads `<runDir>/endpoints.json`. Throws E_LAYOUT when it cannot be understood. */
export function readStoredEndpoints(runDir: string): readonly StoredEndpoint[] {
  return readStored(join(runDir, FILE), storedSchema, WHAT)?.endpoints ?? [];
}

/**
 * Opens the store in `<runDir>/endpoints.json`. The configuration's endpoints replace those that
 * an earlier configuration left, and win over stored ones of the same name or address, which are
 * named to `dropped`. Numbers are kept. Throws E_LAYOUT when the file cannot be understood.
 */
export function openEndpointStore(
  runDir: string,
  configured: readonly EndpointRequest[],
  dropped: (endpoint: StoredEndpoint) => void = () => {},
): EndpointStore {
  const path = join(runDir, FILE);
  const before = readStoredEndpoints(runDir);
  let endpoints = byName(before);
  const save = () => writeStore(path, [...endpoints.values()]);

  function configure(requests: readonly EndpointRequest[]): () => void {
    const earlier = endpoints;
    endpoints = merge(requests, [...earlier.values()], dropped);
    save();
    return () => {
      endpoints = earlier;
      save();
    };
  }
  configure(configured);

  return {
    before,
    list: () => [...endpoints.values()],
    get: (name) => endpoints.get(name),
    add(request) {
      const wanted = canonical(request);
      const there = endpoints.get(wanted.name);
      if (there && sameRequest(there, wanted)) return there;
      const reason = conflict(endpoints, wanted);
      if (reason) throw new SekishoError('E_CONFLICT', reason.message, { hint: reason.hint });
      const added = { ...wanted, id: freeId(endpoints.values()), source: 'api' as const };
      endpoints.set(added.name, added);
      save();
      return added;
    },
    remove(name) {
      const endpoint = endpoints.get(name);
      if (!endpoint) {
        throw new SekishoError('E_NOT_FOUND', `there is no endpoint "${name}"`, {
          hint: 'sekisho endpoint list shows them',
        });
      }
      if (endpoint.source === 'config') {
        throw new SekishoError('E_CONFLICT', `endpoint ${name} comes from the configuration`, {
          hint: 'remove it from the file and reload',
        });
      }
      endpoints.delete(name);
      save();
      return endpoint;
    },
    configure,
  };
}

function byName(endpoints: readonly StoredEndpoint[]): Map<string, StoredEndpoint> {
  return new Map(endpoints.map((endpoint) => [endpoint.name, endpoint]));
}

/** What a configuration asks for, and those added while running that it leaves room for. */
function merge(
  configured: readonly EndpointRequest[],
  before: readonly StoredEndpoint[],
  dropped: (endpoint: StoredEndpoint) => void,
): Map<string, StoredEndpoint> {
  const endpoints = new Map<string, StoredEndpoint>();
  const known = byName(before);
  for (const request of configured) {
    const id = known.get(request.name)?.id ?? freeId([...before, ...endpoints.values()]);
    endpoints.set(request.name, { ...canonical(request), id, source: 'config' });
  }
  for (const endpoint of before.filter(({ source }) => source === 'api')) {
    if (conflict(endpoints, endpoint)) dropped(endpoint);
    else endpoints.set(endpoint.name, endpoint);
  }
  return endpoints;
}

function conflict(
  endpoints: Map<string, StoredEndpoint>,
  wanted: EndpointRequest,
): { message: string; hint: string } | undefined {
  if (endpoints.has(wanted.name)) {
    return {
      message: `endpoint ${wanted.name} is there with another interface or other addresses`,
      hint: 'delete it first',
    };
  }
  for (const other of endpoints.values()) {
    const shared = wanted.addresses.find((address) => other.addresses.includes(address));
    if (shared === undefined) continue;
    return {
      message: `${shared} belongs to endpoint ${other.name}`,
      hint: 'delete that one first',
    };
  }
  return undefined;
}

function canonical({ name, interface: link, addresses }: EndpointRequest): EndpointRequest {
  const texts = addresses.map((address) => formatAddress(parseAddress(address).bytes));
  return { name, interface: link, addresses: [...new Set(texts)] };
}

function sameRequest(a: EndpointRequest, b: EndpointRequest): boolean {
  return (
    a.interface === b.interface && a.addresses.toSorted().join() === b.addresses.toSorted().join()
  );
}

function freeId(taken: Iterable<{ id: number }>): number {
  const ids = new Set([...taken].map(({ id }) => id));
  let id = 1;
  while (ids.has(id)) id++;
  return id;
}

/** In one step: a reader, or a crash of the daemon or the machine, sees the old file or the new. */
function writeStore(path: string, endpoints: StoredEndpoint[]): void {
  const text = `${JSON.stringify({ version: 1, endpoints }, null, 2)}\n`;
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}
