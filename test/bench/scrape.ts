import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { run } from '../lib/command.ts';
import { until } from '../lib/wait.ts';
import { type Summary, summarise } from './statistics.ts';

const METRICS = 'http://127.0.0.1:9964/metrics';
const SCRAPES = 20;
const FIRST_PASS = /^sekisho_conntrack_gc_passes_total\{[^}]*"completed"[^}]*\} [1-9]/m;

export interface ScrapeFigures {
  milliseconds: Summary;
  bytes: number;
}

/**
 * Scrapes a daemon that has adopted pinned tables and gone through them once. `config` is the path
 * of its configuration; the namespace is the caller's own.
 */
export async function measureScrape(binary: string, config: string): Promise<ScrapeFigures> {
  await run(['ip', 'link', 'set', 'lo', 'up']);
  const agent = spawn(binary, ['agent', '--config', config], { stdio: 'ignore' });
  const ended = once(agent, 'close');
  try {
    await until('the first pass', async () => FIRST_PASS.test(await scrape().catch(() => '')));
    const taken: number[] = [];
    let bytes = 0;
    for (let i = 0; i < SCRAPES; i++) {
      const begun = performance.now();
      bytes = Buffer.byteLength(await scrape());
      taken.push(performance.now() - begun);
    }
    return { milliseconds: summarise(taken), bytes };
  } finally {
    agent.kill();
    await ended;
  }
}

async function scrape(): Promise<string> {
  const answer = await fetch(METRICS);
  return answer.text();
}
