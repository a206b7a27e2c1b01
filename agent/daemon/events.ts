import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../engine/logger.ts';
import type { BpfMap } from '../kernel/map.ts';
import { RingBuffer } from '../kernel/ring-buffer.ts';
import { RingWait } from '../kernel/ring-wait.ts';
import { FAMILIES, type Family } from '../lib/ip.ts';
import { decodeEvent } from '../tables/events.ts';
import type { EventType } from '../tables/names.ts';

/** Signals of one kind that came in together. */
export interface Signal {
  family: Family;
  type: EventType;
  count: number;
}

/** However fast they come, they are looked at so often at most. */
const PAUSE_MS = 5;

/**
 * Hears what the datapath tells, until disposed. The collector comes by on its own as well: a
 * kernel that will not let the buffers be read is a warning, and nothing is heard.
 */
export function watchEvents(
  maps: Record<Family, BpfMap>,
  onSignal: (signal: Signal) => void,
  logger: Logger,
): Disposable {
  try {
    return listen(maps, onSignal, logger);
  } catch (error) {
    logger.warn({ err: error }, 'signals of the datapath cannot be heard');
    return { [Symbol.dispose]() {} };
  }
}

function listen(
  maps: Record<Family, BpfMap>,
  onSignal: (signal: Signal) => void,
  logger: Logger,
): Disposable {
  using stack = new DisposableStack();
  const rings = FAMILIES.map((family) => ({
    family,
    ring: stack.use(new RingBuffer(maps[family])),
  }));
  const wait = stack.use(new RingWait(rings.map(({ ring }) => ring)));
  const halt = new AbortController();
  stack.defer(() => halt.abort());

  async function hear(): Promise<void> {
    while (await wait.wait()) {
      for (const { family, ring } of rings) {
        for (const [type, count] of countTypes(ring)) onSignal({ family, type, count });
      }
      await delay(PAUSE_MS, undefined, { signal: halt.signal });
    }
  }
  hear().catch((error: unknown) => {
    if (!halt.signal.aborted) logger.error({ err: error }, 'signals are not heard any more');
  });
  return stack.move();
}

function countTypes(ring: RingBuffer): Map<EventType, number> {
  const counts = new Map<EventType, number>();
  for (const record of ring.take()) {
    const type = decodeEvent(record)?.type;
    if (type) counts.set(type, (counts.get(type) ?? 0) + 1);
  }
  return counts;
}
