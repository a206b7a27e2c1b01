import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FIRST_INTERVAL, nextInterval } from '../../agent/engine/interval.ts';
import { createSchedule, type Schedule } from '../../agent/engine/schedule.ts';

const BOUNDS = { min: 10, max: 43_200 };
const AUTO = { interval: 'auto', ...BOUNDS } as const;
const share = (ratio: number) => new Map([['ipv4/ct_tcp', ratio]]);

/** Interval before, seconds since, share found; the interval after. */
const VECTORS: readonly [
  current: number,
  elapsed: number,
  ratio: number,
  next: number,
  why: string,
][] = [
  [300, 300, 0, 300, 'nothing found says nothing'],
  [300, 300, 0.26, 222, 'over a quarter: shorter by as much'],
  [300, 300, 0.5, 150, 'half'],
  [300, 300, 0.25, 300, 'a quarter is not more than a quarter'],
  [300, 300, 0.9, 30, 'nine tenths'],
  [300, 300, 1, 30, 'all of it cuts no more than nine tenths'],
  [20, 20, 1, 10, 'not below the least'],
  [300, 300, 0.05, 300, 'a twentieth is not less than a twentieth'],
  [300, 300, 0.049, 450, 'less: half as long again'],
  [300, 300, 0.000001, 450, 'one entry of a million'],
  [450, 450, 0.01, 675, 'and again'],
  [675, 675, 0.01, 1013, 'to the second: 1012.5'],
  [40_000, 40_000, 0.01, 43_200, 'not above the most'],
  [43_200, 43_200, 0.01, 43_200, 'nor beyond it'],
  [10, 10, 0.001, 15, 'up from the least'],
  [333, 333, 0.3, 233, 'to the second: 233.1'],
  [300, 30, 0.03, 210, 'a tenth of the time: 0.3 of a whole interval'],
  [300, 150, 0.3, 120, 'half of the time: 0.6'],
  [300, 1, 0.01, 30, 'a second: 3, cut at 0.9'],
  [300, 0, 0.01, 30, 'no time at all'],
  [300, 150, 0.01, 300, 'early: little garbage lengthens nothing'],
  [300, 299, 0.0001, 300, 'not even a second too early'],
  [300, 299.6, 0.01, 450, 'to the second: in time'],
  [300, 900, 0.5, 150, 'late: as it was found'],
];

describe('the next interval', () => {
  for (const [current, elapsed, ratio, next, why] of VECTORS) {
    it(`${current} s, ${ratio} after ${elapsed} s: ${next} s (${why})`, () => {
      assert.equal(nextInterval(current, { elapsed, ratio }, BOUNDS), next);
    });
  }

  it('never leaves its bounds, and never grows early, whatever is found', () => {
    for (let i = 0; i < 2000; i++) {
      const current = 10 + Math.floor(Math.random() * 43_000);
      const [elapsed, ratio] = [Math.random() * 2 * current, Math.random() ** 4];
      const next = nextInterval(current, { elapsed, ratio }, BOUNDS);
      const told = `${current} ${elapsed} ${ratio}: ${next}`;
      assert.ok(Number.isInteger(next) && next >= BOUNDS.min && next <= BOUNDS.max, told);
      if (Math.round(elapsed) < current) assert.ok(next <= current, told);
    }
  });
});

describe('the schedule', () => {
  /** After its first pass, at 0. */
  function begun(settings: Parameters<typeof createSchedule>[0] = AUTO): Schedule {
    const schedule = createSchedule(settings, 0);
    schedule.passed(0, share(0.7));
    return schedule;
  }

  it('starts with five minutes, whatever the first pass finds', () => {
    const { interval, next } = begun();
    assert.deepEqual([interval, next], [FIRST_INTERVAL, 300]);
    assert.equal(createSchedule({ ...AUTO, max: 120 }, 0).interval, 120);
    assert.equal(createSchedule({ ...AUTO, min: 600 }, 0).interval, 600);
  });

  it('follows what each pass finds, pass after pass', () => {
    const schedule = begun();
    const intervals = [0.4, 0.4, 0.1, 0.01, 0, 0.01, 0.3].map((ratio) => {
      schedule.passed(schedule.next, share(ratio));
      return schedule.interval;
    });
    assert.deepEqual(intervals, [180, 108, 108, 162, 162, 243, 170]);
  });

  it('goes by the table that had most, of both families', () => {
    const schedule = begun();
    const found = [0.01, 0.3, 0, 0.02, 0.5, 0.1].map((ratio, i) => [`${i}`, ratio] as const);
    schedule.passed(300, new Map(found));
    assert.equal(schedule.interval, 150);
  });

  it('is what it would have been without a storm of passes in between', () => {
    const [calm, stormy] = [begun(), begun()];
    const load = [0.02, 0.4, 0.1, 0.3, 0.01, 0, 0.04];
    for (const ratio of load) {
      const [due, parts] = [calm.next, 20];
      const step = (due - (stormy.next - stormy.interval)) / parts;
      for (let i = 1; i < parts; i++)
        stormy.passed(due - (parts - i) * step, share(0.2 * (ratio / parts)));
      stormy.passed(due, share(ratio - (0.2 * ratio * (parts - 1)) / parts));
      calm.passed(due, share(ratio));
      assert.deepEqual([stormy.interval, stormy.next], [calm.interval, calm.next]);
    }
  });

  it('is neither put off nor stretched by a pass every second', () => {
    const schedule = begun();
    let due = 0;
    for (let second = 1; second <= 3600; second++) {
      const [next, interval] = [schedule.next, schedule.interval];
      if (second >= next) due++;
      schedule.passed(second, share(0));
      assert.ok(second >= next ? schedule.next === second + interval : schedule.next === next);
      assert.equal(schedule.interval, 300);
    }
    assert.equal(due, 12);
  });

  it('is cut short by a pass that comes early and finds much', () => {
    const schedule = begun();
    schedule.passed(30, share(0.06));
    assert.deepEqual([schedule.interval, schedule.next], [120, 150], '0.6 of a whole interval');
    schedule.passed(145, share(0.3));
    assert.deepEqual([schedule.interval, schedule.next], [82, 150], 'what was due stays due');
  });

  it('goes on an interval after a cut when the pass that stays due comes soon after it', () => {
    for (const [ratio, interval, next] of [
      [0, 207, 497],
      [0.02, 121, 421],
    ] as const) {
      const schedule = begun();
      schedule.passed(290, share(0.3));
      assert.deepEqual([schedule.interval, schedule.next], [207, 300]);
      schedule.passed(300, share(ratio));
      assert.deepEqual([schedule.interval, schedule.next], [interval, next]);
    }
  });

  it('is at least half a second ahead of whoever has just passed', () => {
    for (let round = 0; round < 200; round++) {
      const schedule = createSchedule({ ...AUTO, max: 10 + Math.random() * 600 }, Math.random());
      let at = Math.random();
      let passes = 0;
      for (; at < 20_000; passes++) {
        if (Math.random() < 0.1) schedule.failed(at);
        else schedule.passed(at, share(Math.random() ** 4));
        const told = `${schedule.interval} ${schedule.next} at ${at}`;
        assert.ok(schedule.next - at >= 0.5 && schedule.next - at <= schedule.interval + 1, told);
        const early = Math.random() < 0.3 && schedule.next - at > 2;
        at = early ? at + 1 + Math.random() * (schedule.next - at - 1) : schedule.next - 0.001;
      }
      assert.ok(passes < 8000, `${passes} passes`);
    }
  });

  it('takes a timer that fires a little early for one in time', () => {
    for (const settings of [AUTO, { ...AUTO, interval: 77 } as const]) {
      const schedule = createSchedule(settings, 0.3);
      schedule.passed(0.31, share(0));
      for (let i = 0; i < 20; i++) {
        const at = schedule.next - 0.0009 * Math.random();
        if (i % 2) schedule.failed(at);
        else schedule.passed(at, share(0));
        assert.equal(schedule.next, at + schedule.interval);
      }
    }
  });

  it('adds up what passes find that come early', () => {
    const schedule = begun();
    schedule.passed(100, share(0.05));
    schedule.passed(200, share(0.05));
    assert.equal(schedule.interval, 300, '0.15 of a whole interval');
    schedule.passed(300, share(0.2));
    assert.equal(schedule.interval, 210, '0.3 in all');
  });

  it('takes no notice of a pass that failed', () => {
    const schedule = begun();
    schedule.failed(100);
    assert.deepEqual([schedule.interval, schedule.next], [300, 300]);
    schedule.failed(300);
    assert.deepEqual([schedule.interval, schedule.next], [300, 600], 'the next one has its turn');
  });

  it('stays as it is when it is fixed', () => {
    const schedule = begun({ ...AUTO, interval: 77 });
    schedule.passed(20, share(0.9));
    schedule.passed(77, share(0.9));
    assert.deepEqual([schedule.interval, schedule.next], [77, 154]);
  });

  it('takes other settings over from now on, and the same ones not at all', () => {
    const schedule = begun();
    schedule.change({ ...AUTO }, 100);
    assert.equal(schedule.next, 300);
    schedule.change({ ...AUTO, max: 60 }, 100);
    assert.deepEqual([schedule.interval, schedule.next], [60, 160]);
    schedule.change({ ...AUTO, interval: 20 }, 110);
    assert.deepEqual([schedule.interval, schedule.next], [20, 130]);
    schedule.change(AUTO, 120);
    assert.deepEqual([schedule.interval, schedule.next], [300, 420]);
  });
});
