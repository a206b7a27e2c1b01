import { setTimeout as delay } from 'node:timers/promises';
import type { Collector } from '../engine/collector.ts';
import type { EventType } from '../tables/names.ts';

/** Of the time, passes that the datapath asks for with one signal take this part at most. */
const SHARE = 1 / 10;

/** What a pass can help against. */
export type Trouble = Extract<EventType, 'nat_pressure' | 'half_lost'>;

/**
 * What to do when the datapath tells of trouble: a pass, which gives back ports of flows that are
 * over, and brings back NAT halves that were lost. Where all ports are in use, or the replies that
 * could not be mapped were nobody's, it finds nothing, and the datapath goes on telling every
 * second: so a pass is followed by a rest that is as much longer as the tables are large. What is
 * told meanwhile makes one pass after it: a server that repeats itself does so ever more rarely.
 */
export function passWhenTold(
  { run, status }: Pick<Collector, 'run' | 'status'>,
  trouble: Trouble,
  rest: (milliseconds: number) => Promise<unknown> = (milliseconds) =>
    delay(milliseconds, undefined, { ref: false }),
): () => void {
  let told = false;
  let busy = false;

  async function answer(): Promise<void> {
    while (told) {
      told = false;
      await run(trouble);
      const [last] = status().history;
      await rest((last?.durationMs ?? 0) * (1 / SHARE - 1));
    }
  }

  return () => {
    told = true;
    if (busy) return;
    busy = true;
    answer()
      .catch(() => {})
      .finally(() => {
        busy = false;
      });
  };
}
