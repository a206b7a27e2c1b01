import { clamp, FIRST_INTERVAL, type IntervalBounds, isEarly, nextInterval } from './interval.ts';

/** `gc` of the configuration: seconds between passes, or bounds of what passes make of it. */
export interface ScheduleSettings extends IntervalBounds {
  interval: 'auto' | number;
}

/** By table, what share of its capacity had expired. */
export type Expired = ReadonlyMap<string, number>;

/** When passes are due. Times are seconds of one monotonic clock. */
export interface Schedule {
  readonly interval: number;
  /** When the next pass is due. */
  readonly next: number;
  /** A pass that began `at` has gone through all tables. */
  passed(at: number, expired: Expired): void;
  /** One has not: it counts for nothing. */
  failed(at: number): void;
  /** Other settings, from now on; the same ones change nothing. */
  change(settings: ScheduleSettings, now: number): void;
}

/**
 * The interval is judged over the whole time from one pass that was due to the next, whatever
 * came in between: passes that come early add to what is found in it. They may cut it short, but
 * never put off what is due, which may then come before its interval is over and be early as well.
 * The first pass, which finds the garbage of an unknown time, begins it.
 */
export function createSchedule(first: ScheduleSettings, now: number): Schedule {
  let settings = first;
  let interval = start(settings);
  let next = now + interval;
  let since: number | undefined;
  let found = new Map<string, number>();

  function begin(at: number, due: number): void {
    since = at;
    found = new Map();
    next = due;
  }

  return {
    get interval() {
      return interval;
    },
    get next() {
      return next;
    },
    passed(at, expired) {
      for (const [table, share] of expired) found.set(table, (found.get(table) ?? 0) + share);
      const due = !isEarly(next, at);
      if (settings.interval !== 'auto' || since === undefined) {
        if (since === undefined || due) begin(at, at + interval);
        return;
      }
      const elapsed = at - since;
      const after = nextInterval(
        interval,
        { elapsed, ratio: Math.max(0, ...found.values()) },
        settings,
      );
      if (isEarly(interval, elapsed) && after >= interval) {
        if (due) next = since + interval;
        return;
      }
      interval = after;
      begin(at, due ? at + after : Math.min(next, at + after));
    },
    failed(at) {
      if (!isEarly(next, at)) next = at + interval;
    },
    change(to, at) {
      const { interval: before, min, max } = settings;
      if (before === to.interval && min === to.min && max === to.max) return;
      settings = to;
      interval = before === 'auto' && to.interval === 'auto' ? clamp(interval, to) : start(to);
      next = at + interval;
    },
  };
}

function start(settings: ScheduleSettings): number {
  return settings.interval === 'auto' ? clamp(FIRST_INTERVAL, settings) : settings.interval;
}
