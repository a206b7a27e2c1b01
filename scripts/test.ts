/**
 * Runs the test suites, those in a namespace of their own two at a time, and ends in one summary line. With names (`unit
 * e2e`) or files (`test/e2e/bulk.test.ts`) it runs those. Suites that touch the kernel run as root; what the machine lacks is
 * skipped with the reason.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { text } from 'node:stream/consumers';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { atLength } from '../test/lib/long.ts';
import { slowly } from '../test/lib/wait.ts';

interface Suite {
  name: string;
  /** In a network and mount namespace of its own, which takes everything with it at the end. */
  isolated: boolean;
  /** Test files at a time. */
  concurrency: number;
}

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

const ROOT = join(import.meta.dirname, '..');
/** Two at a time, the longest first. */
const BESIDE: readonly Suite[] = [
  { name: 'daemon', isolated: true, concurrency: 1 },
  { name: 'datapath', isolated: true, concurrency: 1 },
  { name: 'kernel', isolated: true, concurrency: 1 },
  { name: 'property', isolated: true, concurrency: 1 },
  { name: 'cli', isolated: true, concurrency: 1 },
  { name: 'unit', isolated: false, concurrency: 1 },
];
const E2E: Suite = { name: 'e2e', isolated: false, concurrency: 2 };
const INNER = '--inner';
/** One test, however it is written: none takes longer. */
const TIMEOUT_MS = slowly(atLength(300_000, 1_800_000));

/** Files of a suite that were asked for: by its name, by their own, or not at all. */
function testFiles(suite: string, asked: readonly string[]): string[] {
  const dir = join(ROOT, 'test', suite);
  try {
    const names = readdirSync(dir).filter((name) => name.endsWith('.test.ts'));
    const files = names.sort().map((name) => join(dir, name));
    if (asked.length === 0 || asked.includes(suite)) return files;
    return files.filter((file) => asked.includes(relative(ROOT, file)));
  } catch {
    return [];
  }
}

async function runHere(suite: Suite, files: string[]): Promise<Totals> {
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const stream = run({ files, concurrency: suite.concurrency, timeout: TIMEOUT_MS });
  stream.on('test:pass', ({ skip, details }) => {
    if (details.type === 'suite') return;
    totals[skip === undefined ? 'passed' : 'skipped'] += 1;
  });
  stream.on('test:fail', ({ details }) => {
    if (details.type !== 'suite') totals.failed += 1;
  });
  for await (const text of stream.compose(spec)) process.stdout.write(text);
  return totals;
}

/** Runs a suite in a child that has namespaces of its own; the totals are its last line. */
async function runIsolated(suite: Suite, files: string[]): Promise<Totals> {
  const child = spawn(
    'unshare',
    [
      ...['--net', '--mount', '--propagation', 'private'],
      ...[process.execPath, import.meta.filename, INNER, suite.name, ...files],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const lines = (await text(child.stdout)).trimEnd().split('\n');
  const last = lines.pop() ?? '';
  process.stdout.write([`\n== ${suite.name}`, ...lines].map((line) => `${line}\n`).join(''));
  if (!last.startsWith('{')) return { passed: 0, failed: 1, skipped: 0 };
  return JSON.parse(last) as Totals;
}

/** Runs suites, `beside` of them at a time. */
async function runSuites(
  suites: readonly Suite[],
  beside: number,
  names: readonly string[],
): Promise<Totals[]> {
  const isRoot = process.getuid?.() === 0;
  const pending = suites.values();
  const all: Totals[] = [];
  const worker = async () => {
    for (const suite of pending) {
      const files = testFiles(suite.name, names);
      if (files.length === 0) continue;
      if (suite.isolated && isRoot) {
        all.push(await runIsolated(suite, files));
      } else {
        console.log(`\n== ${suite.name}`);
        all.push(await runHere(suite, files));
      }
    }
  };
  await Promise.all(Array.from({ length: beside }, worker));
  return all;
}

/** Types are stripped once, not by each of the many programs that tests start. */
process.env.NODE_COMPILE_CACHE ??= join(ROOT, 'build/node');

const names = process.argv.slice(2);
if (names[0] === INNER) {
  const suite = BESIDE.find(({ name }) => name === names[1]);
  if (!suite) throw new Error(`no suite ${names[1]}`);
  const totals = await runHere(suite, names.slice(2));
  process.stdout.write(`${JSON.stringify(totals)}\n`);
} else {
  const sum: Totals = { passed: 0, failed: 0, skipped: 0 };
  const beside = await runSuites(BESIDE, 2, names);
  for (const totals of [...beside, ...(await runSuites([E2E], 1, names))]) {
    for (const key of ['passed', 'failed', 'skipped'] as const) sum[key] += totals[key];
  }
  console.log(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
  process.exitCode = sum.failed > 0 || sum.passed === 0 ? 1 : 0;
}
