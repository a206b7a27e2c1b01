import type { Family } from '../lib/ip.ts';
import { type NodeFacts, taken } from './facts.ts';
import { type Part, partsOf } from './parts.ts';
import type { PreparedService } from './prepare.ts';
import { createRoom } from './room.ts';

/** An address that services answer on: what else is sent there has no other receiver. */
export interface ServiceAddress {
  family: Family;
  bytes: Uint8Array;
  /** Whether the network may use one of its frontends. */
  external: boolean;
}

/** What the datapath is to serve, and what it is not. */
export interface Compiled {
  facts: NodeFacts;
  /** Of every service that is not rejected. */
  parts: ReadonlyMap<PreparedService, readonly Part[]>;
  addresses: readonly ServiceAddress[];
  /** Why a service is rejected, one reason each. */
  rejected: ReadonlyMap<PreparedService, string>;
}

/**
 * Works out the desired state. Of services that ask for the same frontend or node port, the first
 * has it; a rejected one leaves the rest as it is. Parts that have not changed are those of
 * `before`.
 */
export function compile(
  services: readonly PreparedService[],
  facts: NodeFacts,
  before?: Compiled,
): Compiled {
  const parts = new Map<PreparedService, readonly Part[]>();
  const rejected = new Map<PreparedService, string>();
  const owners = new Map<string, string>();
  const room = createRoom();
  for (const service of services) {
    const own = before?.facts === facts ? before.parts.get(service) : undefined;
    const made = own ?? keepSame(partsOf(service, facts), before?.parts.get(service));
    const claims = made.flatMap(claimsOf);
    const problem =
      (own ? undefined : (service.problem ?? placeProblem(service, facts))) ??
      contradiction(claims, owners) ??
      room.take(made);
    if (problem !== undefined) {
      rejected.set(service, problem);
      continue;
    }
    parts.set(service, made);
    for (const { key } of claims) owners.set(key, service.spec.name);
  }
  return { facts, parts, addresses: addressesOf(parts, facts), rejected };
}

function placeProblem({ frontends }: PreparedService, facts: NodeFacts): string | undefined {
  for (const { bytes, address } of frontends) {
    const reason = taken(facts, bytes, address);
    if (reason) return `frontend ${address} ${reason}`;
  }
  return undefined;
}

interface Claim {
  /** Names it among the claims of all services. */
  key: string;
  /** For messages. */
  what: string;
}

function contradiction(
  claims: readonly Claim[],
  owners: ReadonlyMap<string, string>,
): string | undefined {
  for (const { key, what } of claims) {
    const owner = owners.get(key);
    if (owner !== undefined) return `${what} belongs to service ${owner}`;
  }
  return undefined;
}

/** A node port is taken even while no address serves it. */
function claimsOf({ service, family, protocol, frontends }: Part): Claim[] {
  const own = frontends.map(({ key }) => ({ key, what: `frontend ${key}` }));
  const { nodePort } = service.spec;
  if (nodePort === undefined) return own;
  const what = `node port ${nodePort}/${protocol}`;
  return [{ key: `${family} ${what}`, what }, ...own];
}

/** What a change of the node has not changed goes on as the same object: nothing to compare. */
function keepSame(made: readonly Part[], before: readonly Part[] | undefined): readonly Part[] {
  if (!before) return made;
  const parts = made.map((part) => {
    const same = before.find(({ key }) => key === part.key);
    return same && isSame(part, same) ? same : part;
  });
  return parts.length === before.length && parts.every((part, i) => part === before[i])
    ? before
    : parts;
}

function isSame(a: Part, b: Part): boolean {
  return (
    a.frontends.length === b.frontends.length &&
    a.frontends.every(({ key }, i) => key === b.frontends[i]?.key) &&
    a.local.every((local, i) => local === b.local[i])
  );
}

/** On an address of the node itself, other ports are the node's. */
function addressesOf(
  parts: ReadonlyMap<PreparedService, readonly Part[]>,
  { own }: NodeFacts,
): ServiceAddress[] {
  const found = new Map<string, ServiceAddress>();
  for (const list of parts.values()) {
    for (const { frontends } of list) {
      for (const { kind, family, bytes, address, external } of frontends) {
        if (kind === 'nodePort' || own.has(address)) continue;
        const there = found.get(address);
        if (!there) found.set(address, { family, bytes, external });
        else there.external ||= external;
      }
    }
  }
  return [...found.values()];
}

/** Parts of one family, or of both. */
export function allParts({ parts }: Compiled): Part[] {
  return [...parts.values()].flat();
}
