import type { Namespace } from './netns.ts';
import { buildPacket, type Packet } from './packet.ts';
import type { RawHandlers } from './raw/program.ts';
import { startRemote } from './remote.ts';
import { until } from './wait.ts';

export interface Capture {
  frame: Uint8Array;
  direction: 'in' | 'out';
}

/** Sends and hears whole frames on one interface of a namespace. */
export interface Wire extends AsyncDisposable {
  send(...packets: (Packet | Uint8Array)[]): Promise<void>;
  /** Everything heard so far that was not taken yet. */
  take(): Promise<Capture[]>;
  /** Takes until a frame satisfies `wanted`, and returns it. */
  hear(what: string, wanted: (frame: Uint8Array) => boolean): Promise<Capture>;
}

/**
 * Opens the wire. `sources` keeps only frames whose IP source lies in one of these prefixes: the
 * kernel filters, so nothing is missed however much passes.
 */
export async function openWire(
  ns: Namespace,
  device: string,
  { sources }: { sources?: string[] } = {},
): Promise<Wire> {
  const program = new URL('./raw/program.ts', import.meta.url);
  const remote = await startRemote<RawHandlers>(ns, program);
  await remote.listen({ device, ...(sources ? { sources } : {}) });
  const take = async () =>
    (await remote.take()).map(({ frame, direction }) => ({
      frame: Uint8Array.from(Buffer.from(frame, 'base64')),
      direction,
    }));
  return {
    async send(...packets) {
      const frames = packets.map((packet) =>
        Buffer.from(packet instanceof Uint8Array ? packet : buildPacket(packet)).toString('base64'),
      );
      await remote.send({ device, frames });
    },
    take,
    hear: (what, wanted) =>
      until(what, async () => (await take()).find(({ frame }) => wanted(frame))),
    [Symbol.asyncDispose]: () => remote[Symbol.asyncDispose](),
  };
}
