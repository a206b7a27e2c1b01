import type { Collector } from '../engine/collector.ts';

/** Of the time, passes for want of ports take this part at most. */
const SHARE = 1 / 10;

/**
 * What to do when ports run short: a pass, which gives back those of flows that are over. Where
 * all of them are in use it finds nothing, and the datapath goes on telling every second: so a pass
 * is followed by a rest that is as much longer as the tables are large.
 */
export function answerPressure(
  { run, status }: Pick<Collector, 'run' | 'status'>,
  now: () => number = () => performance.now(),
): () => void {
  let restUntil = 0;
  let running = false;

  async function pass(): Promise<void> {
    await run('nat_pressure');
    const [last] = status().history;
    restUntil = now() + (last?.durationMs ?? 0) * (1 / SHARE - 1);
  }

  return () => {
    if (running || now() < restUntil) return;
    running = true;
    pass()
      .catch(() => {})
      .finally(() => {
        running = false;
      });
  };
}
