import type { BackendState } from './names.ts';

/** How many backends of a service there are in each state. */
export type StateCounts = Record<BackendState, number>;

export function noStates(): StateCounts {
  return { active: 0, terminating: 0, quarantined: 0, maintenance: 0 };
}
