import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../command.ts';
import { launchAgent, type Settings } from '../daemon.ts';
import type { Topology } from '../topology.ts';

const SOURCE = fileURLToPath(new URL('./step.c', import.meta.url));

/** A start that was ended right after a step of it. */
export interface Crash {
  /** Number of the step, from 1. */
  at: number;
  /** What the step was: pin, attach, replace, update, rename, …. */
  step: string;
}

export interface CrashOptions {
  settings?: Settings;
  /** Steps between two crashes. */
  stride: number;
}

/** Starts the daemon and ends it by SIGKILL right after the first step of that name. */
export async function crashAfter(topo: Topology, step: string, settings: Settings): Promise<void> {
  const log = join(topo.directory, 'steps');
  rmSync(log, { force: true });
  const env = { LD_PRELOAD: await buildLibrary(topo), CRASH_AT: step, CRASH_LOG: log };
  await launchAgent(topo, { settings, env }).ended;
  const last = readFileSync(log, 'utf8').trim().split('\n').at(-1);
  if (last !== step) throw new Error(`ended after ${last}, not after ${step}`);
}

/**
 * Starts the daemon again and again, each time on what the start before has left, and ends it by
 * SIGKILL right after a later and later step, until a start becomes ready. `check` is called
 * after every crash.
 */
export async function crashAtSteps(
  topo: Topology,
  { settings = {}, stride }: CrashOptions,
  check: (crash: Crash) => Promise<void>,
): Promise<Crash[]> {
  const [library, log] = [await buildLibrary(topo), join(topo.directory, 'steps')];
  const crashes: Crash[] = [];
  for (let at = 1; ; at += stride) {
    rmSync(log, { force: true });
    const env = { LD_PRELOAD: library, CRASH_AT: `${at}`, CRASH_LOG: log };
    const agent = launchAgent(topo, { settings, env });
    const isReady = await Promise.race([
      agent.ready().then(() => true),
      agent.ended.then(() => false),
    ]).catch(() => false);
    if (isReady) {
      await agent.kill9();
      return crashes;
    }
    const steps = readFileSync(log, 'utf8').trim().split('\n');
    if (steps.length < at)
      throw new Error(`ended before step ${at}: ${JSON.stringify(agent.logs)}`);
    const crash = { at, step: steps[at - 1] ?? '' };
    crashes.push(crash);
    await check(crash);
  }
}

/** The library that does it, compiled into a directory of the test's. */
export async function buildLibrary({ directory }: { directory: string }): Promise<string> {
  const library = join(directory, 'step.so');
  await run([process.env.CLANG ?? 'clang-19', '-shared', '-fPIC', '-o', library, SOURCE]);
  return library;
}
