import type { Namespace } from './netns.ts';
import type { PeerHandlers } from './peer/program.ts';
import { type Remote, startRemote } from './remote.ts';

/** A program in a namespace that holds real sockets on a test's behalf. */
export type Peer = Remote<PeerHandlers>;

/** Starts one; dispose it, or hand it to `topology.use`. */
export function startPeer(ns: Namespace): Promise<Peer> {
  return startRemote<PeerHandlers>(ns, new URL('./peer/program.ts', import.meta.url));
}
