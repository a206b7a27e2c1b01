import type { Namespace } from '../../lib/netns.ts';
import type { Topology } from '../../lib/topology.ts';
import { assertWay, type Look, lookAt, type Way } from './proof.ts';
import type { Seen } from './tools.ts';

/** One of the ways that are compared, on a topology of its own. */
export interface Variant extends AsyncDisposable {
  name: string;
  topo: Topology;
  ends: Ends;
  /** What packets the node's stack forwarded so far, and how many its conntrack knows. */
  look(): Promise<Look>;
  /** Fails unless `packets` packets went the way that is to be measured. */
  assertPath(before: Look, after: Look, seen: Seen, packets: number): void;
}

/** Between whom connections are made: where the client connects to, where the server listens. */
export interface Ends {
  client: Namespace;
  server: Namespace;
  host: string;
  port: number;
  serverPort: number;
}

/** Installs a variant on a topology, which it owns from then on, also when that fails. */
export async function makeVariant(
  topo: Topology,
  { way, ends }: { way: Way; ends: Ends },
  install: () => Promise<void>,
): Promise<Variant> {
  try {
    await install();
  } catch (error) {
    await topo[Symbol.asyncDispose]();
    throw error;
  }
  return {
    name: way.name,
    topo,
    ends,
    look: () => lookAt(topo),
    assertPath: (before, after, seen, packets) => assertWay(way, { before, after, seen, packets }),
    [Symbol.asyncDispose]: () => topo[Symbol.asyncDispose](),
  };
}

/** Several variants; disposing removes all of them. */
export interface Opened extends AsyncDisposable {
  all: Variant[];
}

/** Opens one after the other; all of them are removed when one cannot be made. */
export async function openEach<Name>(
  names: readonly Name[],
  open: (name: Name) => Promise<Variant>,
): Promise<Opened> {
  await using stack = new AsyncDisposableStack();
  const all: Variant[] = [];
  for (const name of names) all.push(stack.use(await open(name)));
  const owned = stack.move();
  return { all, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
