/**
 * Prints, as JSON, what a packet of each path asks of the kernel: counters compiled into a second
 * build of the same sources, on the same maps. Runs in a network namespace of its own.
 */
import { join } from 'node:path';
import { configBytes } from '../../../agent/engine/load-settings.ts';
import { mapPin } from '../../../agent/engine/pins.ts';
import { openPinnedMap } from '../../../agent/kernel/map.ts';
import { type BpfObject, openObject } from '../../../agent/kernel/object.ts';
import type { Rig } from '../../datapath/rig.ts';
import { type Meter, type Reading, walkPaths } from './paths.ts';
import { HOOKS, type Hook, openRunner, type Run } from './runner.ts';
import { walkServices } from './services.ts';

const BUILT = join(import.meta.dirname, '..', '..', '..', 'build', 'bpf');
/** `enum call` of count-calls.h, in its order. */
const NAMES = ['lookups', 'arrayLookups', 'updates', 'deletes', 'routes', 'sockets'] as const;

/** Per packet. */
export type CallCount = Record<(typeof NAMES)[number], number>;

/** The counting build in front of the rig's maps. */
function openCounting({ family, bpffs, settings }: Rig, stack: DisposableStack): BpfObject {
  const object = stack.use(openObject(join(BUILT, `bench-${family}-calls.bpf.o`)));
  object.setRodata(configBytes(family, object.rodata(), settings));
  for (const name of object.maps().filter((name) => !name.includes('.'))) {
    const map = openPinnedMap(mapPin(bpffs, family, name));
    if (!map) throw new Error(`no map is pinned under ${name}`);
    object.reuseMap(name, stack.use(map));
  }
  object.load();
  return object;
}

function callCounter(rig: Rig, stack: DisposableStack): Meter<CallCount> {
  const object = openCounting(rig, stack);
  const programs = HOOKS.map((hook) => [hook, stack.use(object.program(hook))]);
  const runner = openRunner(rig, Object.fromEntries(programs), stack);
  const counters = stack.use(object.map('.bss'));
  const read = () => {
    const bytes = counters.lookup(new Uint8Array(4));
    if (!bytes) throw new Error('the counting build has no counters');
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    return NAMES.map((_, i) => Number(view.getBigUint64(8 * i, true)));
  };
  const countCalls = (hook: Hook, run: Run) => {
    const calls = runner.within(run, () => {
      const before = read();
      runner.run(hook, run);
      return read().map((value, i) => (value - (before[i] ?? 0)) / run.repeat);
    });
    return Object.fromEntries(NAMES.map((name, i) => [name, calls[i]])) as CallCount;
  };
  return { once: countCalls, steady: countCalls };
}

const readings: Reading<CallCount>[] = [];
const walk = { many: 10_000, repeat: 10_000, meter: callCounter };
for (const proto of ['tcp', 'udp'] as const) {
  readings.push(...(await walkPaths('ipv4', proto, walk)));
}
readings.push(...(await walkServices(walk)));
process.stdout.write(JSON.stringify(readings));
