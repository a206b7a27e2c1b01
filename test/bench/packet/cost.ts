/**
 * Prints, as JSON, the nanoseconds per packet of each path in this process: BPF_PROG_TEST_RUN of
 * the real programs on the real maps. Runs in a network namespace of its own.
 */
import { programById } from '../../../agent/kernel/program.ts';
import type { Rig } from '../../datapath/rig.ts';
import { summarise } from '../statistics.ts';
import { type Meter, type Reading, walkPaths } from './paths.ts';
import { HOOKS, openRunner, type Run } from './runner.ts';
import { walkServices } from './services.ts';

const ROUNDS = 7;
/** Of those that wait for a second to begin. */
const FRESH_ROUNDS = 3;

/** A run of packets apart takes as long as all rounds of another, and has a median of its own. */
function roundsOf({ fresh, apart }: Run): number {
  if (apart) return 1;
  return fresh ? FRESH_ROUNDS : ROUNDS;
}

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
      const rounds = Array.from({ length: roundsOf(run) }, () =>
        runner.within(run, () => runner.run(hook, run) - runner.floor(run)),
      );
      return summarise(rounds).median;
    },
  };
}

const readings: Reading<number>[] = [];
const walk = { many: 100_000, repeat: 100_000, meter: stopwatch };
for (const [family, proto] of [
  ['ipv4', 'tcp'],
  ['ipv4', 'udp'],
  ['ipv6', 'tcp'],
] as const) {
  readings.push(...(await walkPaths(family, proto, walk)));
}
readings.push(...(await walkServices(walk)));
process.stdout.write(JSON.stringify(readings));
