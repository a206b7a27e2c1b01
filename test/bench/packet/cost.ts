/**
 * Prints, as JSON, the nanoseconds per packet of each path in this process: BPF_PROG_TEST_RUN of
 * the real programs on the real maps. Runs in a network namespace of its own.
 */
import { programById } from '../../../agent/kernel/program.ts';
import type { Rig } from '../../datapath/rig.ts';
import { summarise } from '../statistics.ts';
import { type Meter, type Reading, walkPaths } from './paths.ts';
import { HOOKS, openRunner } from './runner.ts';

const ROUNDS = 7;
/** Of those that wait for a second to begin. */
const FRESH_ROUNDS = 3;

/** Nanoseconds, net of the wrapper's: of a steady path the median of several rounds. */
function stopwatch(rig: Rig, stack: DisposableStack): Meter<number> {
  const programs = HOOKS.map((hook) => {
    const program = programById(rig.programIds[hook]);
    if (!program) throw new Error(`no program ${hook}`);
    return [hook, stack.use(program)];
  });
  const runner = openRunner(rig, Object.fromEntries(programs), stack);
  return {
    once: (hook, run) => runner.run(hook, run) - runner.floor(run),
    steady(hook, run) {
      const rounds = Array.from({ length: run.fresh ? FRESH_ROUNDS : ROUNDS }, () =>
        runner.within(run, () => runner.run(hook, run) - runner.floor(run)),
      );
      return summarise(rounds).median;
    },
  };
}

const readings: Reading<number>[] = [];
for (const [family, proto] of [
  ['ipv4', 'tcp'],
  ['ipv4', 'udp'],
  ['ipv6', 'tcp'],
] as const) {
  const walk = { many: 100_000, repeat: 100_000, meter: stopwatch };
  readings.push(...(await walkPaths(family, proto, walk)));
}
process.stdout.write(JSON.stringify(readings));
