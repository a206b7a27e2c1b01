import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { counter } from '../../agent/abi/generated.ts';
import { openPinnedMap } from '../../agent/kernel/map.ts';
import { RingBuffer } from '../../agent/kernel/ring-buffer.ts';
import { decodeEvent, type Event } from '../../agent/tables/events.ts';
import { CONNECTION_TABLES } from '../../agent/tables/names.ts';
import { buildPacket } from '../lib/packet.ts';
import { openRig, PEOPLE, type Rig } from './rig.ts';

const STEP = 16;
const PORTS = 200;
/** Bytes of a record with its header. */
const RECORD = 16;

interface Events extends Disposable {
  take(): Event[];
  /** Records that it holds. */
  capacity: number;
}

function openEvents(rig: Rig): Events {
  using map = openPinnedMap(join(rig.bpffs, rig.family, 'events'));
  assert.ok(map);
  const ring = new RingBuffer(map);
  return {
    capacity: map.maxEntries / RECORD,
    take: () => Array.from(ring.take(), (record) => decodeEvent(record) ?? assert.fail()),
    [Symbol.dispose]: () => ring.close(),
  };
}

/** How often each CPU's count of entries that it made has come to a multiple of the step. */
function stepsTaken(rig: Rig): Record<string, number> {
  using map = openPinnedMap(join(rig.bpffs, rig.family, 'counters'));
  assert.ok(map);
  const steps = CONNECTION_TABLES.map((table, i) => {
    const index = Uint32Array.of(counter.COUNTER_CREATED + i);
    const values = map.lookup(new Uint8Array(index.buffer)) ?? assert.fail();
    const created = Array.from(new BigUint64Array(values.buffer), Number);
    return [table, created.reduce((sum, count) => sum + Math.floor(count / STEP), 0)];
  });
  return Object.fromEntries(steps);
}

for (const family of ['ipv4', 'ipv6'] as const) {
  const { A, W } = PEOPLE[family];
  const syn = (sport: number) =>
    buildPacket({ ip: { src: A, dst: W }, tcp: { sport, dport: 443, flags: 'S' } });
  const datagram = (sport: number) =>
    buildPacket({ ip: { src: A, dst: W }, udp: { sport, dport: 53 } });

  describe(`what the agent is told, ${family}`, () => {
    let rig: Rig;
    let events: Events;
    before(async () => {
      rig = await openRig(family, { fillStep: STEP, portRange: [40_000, 40_000 + PORTS - 1] });
      events = openEvents(rig);
    });
    after(async () => {
      events[Symbol.dispose]();
      await rig[Symbol.asyncDispose]();
    });

    test('every so many entries that a CPU adds to a table, and not between', () => {
      const fills = { ct_tcp: 0, ct_any: 0, snat: 0 };
      for (let i = 0; i < 3 * STEP; i++) {
        rig.out(datagram(1000 + i));
        for (const event of events.take()) {
          if (event.type === 'table_fill') fills[event.table]++;
        }
        assert.deepEqual(fills, stepsTaken(rig), `after ${i + 1} flows`);
      }
      assert.ok(fills.ct_any > 0 && fills.snat > fills.ct_any);
    });

    test('once a second at most that ports run short, before the last one is gone', () => {
      const seconds = new Set<number>();
      let [heard, failures] = [0, 0];
      for (let i = 0; i < PORTS + 20; i++) {
        seconds.add(rig.now());
        const failed = rig.out(syn(1000 + i)).counted['attempts 33'] ?? 0;
        seconds.add(rig.now());
        heard += events.take().filter(({ type }) => type === 'nat_pressure').length;
        assert.ok(failed === 0 || heard > 0, 'a port was missing and nobody had been told');
        failures += failed;
      }
      assert.ok(failures > 0);
      assert.ok(heard <= seconds.size, `${heard} in ${seconds.size} s`);
    });
  });
}

test('what nobody reads is lost and counted, and the packet goes on', async () => {
  await using rig = await openRig('ipv4', { fillStep: 1 });
  using events = openEvents(rig);
  const { A, W } = PEOPLE.ipv4;
  let [sent, lost] = [0, 0];
  for (; lost === 0 && sent < events.capacity; sent++) {
    const tcp = { sport: 1024 + sent, dport: 443, flags: 'S' };
    const { verdict, counted } = rig.out(buildPacket({ ip: { src: A, dst: W }, tcp }));
    assert.equal(verdict, 'pass');
    lost = counted['events lost'] ?? 0;
    if (sent % 1000 === 999) await rig.clear();
  }
  assert.ok(lost > 0, `${sent} packets`);
  assert.ok(events.take().length >= events.capacity - 1);
});
