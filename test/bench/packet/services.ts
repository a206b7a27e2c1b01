import { probeCapabilities } from '../../../agent/kernel/capabilities.ts';
import { openRig } from '../../datapath/rig.ts';
import type { Reading, State, Walk } from './paths.ts';
import { SCENES } from './service-scenes.ts';

const TABLE_SIZE = 524_288;

/**
 * Takes the meter along every path of a service, IPv4 TCP: one flow, then many, which are opened
 * first. Packets of a hook that changes their length are as many as there are flows.
 */
export async function walkServices<T>(walk: Walk<T>): Promise<Reading<T>[]> {
  const readings: Reading<T>[] = [];
  const { fibSkipNeigh, csumIpv6 } = probeCapabilities();
  for (const { rows, legs } of Object.values(SCENES)) {
    await using rig = await openRig('ipv4', { fibSkipNeigh, csumIpv6, tableSize: TABLE_SIZE });
    using stack = new DisposableStack();
    const meter = walk.meter(rig, stack);
    rows(rig);
    for (const [flows, state] of [
      [1, 'hot'],
      [walk.many, 'many'],
    ] as const) {
      await rig.clear();
      const note = (state: State, path: Reading<T>['path'], value: T) =>
        readings.push({ family: 'ipv4', proto: 'tcp', path, state, value });
      const all = legs(rig, flows);
      for (const { path, hook, opening } of all) {
        const value = meter.once(hook, opening);
        if (state === 'many') note('new', path, value);
      }
      for (const { hook, confirming } of all) meter.once(hook, confirming());
      for (const { path, hook, established } of all) {
        note(state, path, meter.steady(hook, established(walk.repeat)));
      }
    }
  }
  return readings;
}
