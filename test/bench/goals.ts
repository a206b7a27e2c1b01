import type { Summary } from './statistics.ts';

/** What is asked of Sekisho's ratio to nftables, by the key of the load. */
export const GOALS: Readonly<Record<string, number>> = {
  bulk: 1.0,
  'udp-1': 1.1,
  'udp-10k': 1.1,
  'crr-1': 1.05,
  'crr-32': 1.05,
};

export interface Verdict {
  key: string;
  title: string;
  goal: number;
  ratio: Summary;
  met: boolean;
}

/** The median decides; its spread says how far to believe it. */
export function judge(key: string, title: string, ratio: Summary): Verdict | undefined {
  const goal = GOALS[key];
  if (goal === undefined) return undefined;
  return { key, title, goal, ratio, met: ratio.median >= goal };
}
