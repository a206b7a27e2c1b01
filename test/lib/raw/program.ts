import { setTimeout as sleep } from 'node:timers/promises';
import { serveHandlers } from '../remote.ts';
import { type FloodFields, nextFlow } from './flood.ts';
import { type Captured, openListener, openSender, type RawSocket } from './socket.ts';

interface FloodOrder {
  device: string;
  /** Base64. */
  frame: string;
  fields: FloodFields;
  from: number;
  count: number;
  /** Frames in a second at most. */
  rate?: number | undefined;
}

const senders = new Map<string, RawSocket>();
const captured: Captured[] = [];

const handlers = {
  /** Sends frames, base64, one after the other. */
  send({ device, frames }: { device: string; frames: string[] }) {
    const sender = senders.get(device) ?? openSender(device);
    senders.set(device, sender);
    for (const frame of frames) sender.send(Buffer.from(frame, 'base64'));
  },

  /** Sends `count` frames, each the first of another flow; see nextFlow. */
  async flood({ device, frame, fields, from, count, rate }: FloodOrder) {
    const sender = senders.get(device) ?? openSender(device);
    senders.set(device, sender);
    const bytes = Buffer.from(frame, 'base64');
    const begun = performance.now();
    for (let i = 0; i < count; i++) {
      const early = rate ? (i / rate) * 1000 - (performance.now() - begun) : 0;
      if (early > 1) await sleep(early);
      nextFlow(bytes, fields, from + i);
      sender.send(bytes);
    }
  },

  /** From now on frames of the device are kept, if asked only those from these prefixes. */
  listen({ device, sources }: { device: string; sources?: string[] }) {
    void drain(openListener(device, sources));
  },

  /** What was captured since the last call. */
  take() {
    return captured
      .splice(0)
      .map(({ frame, direction }) => ({ frame: Buffer.from(frame).toString('base64'), direction }));
  },
};

export type RawHandlers = typeof handlers;

async function drain(socket: RawSocket): Promise<never> {
  for (;;) {
    for (let next = socket.receive(); next; next = socket.receive()) captured.push(next);
    await sleep(5);
  }
}

if (import.meta.main) serveHandlers(handlers);
