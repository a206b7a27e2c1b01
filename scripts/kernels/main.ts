/**
 * Runs test suites on other kernels than this machine's, in virtual machines, and ends in one
 * summary line. Arguments: kernels (`6.1`), suites and test files; by default all kernels, and the
 * suites that depend on them, a machine for each. With COMMAND in the environment it runs that
 * instead of tests. A kernel that cannot be had is skipped with the reason.
 */
import { join } from 'node:path';
import { boot } from './boot.ts';
import { prepareHost } from './host.ts';
import { type Image, KERNELS, prepareImage } from './image.ts';
import { Unavailable } from './packages.ts';

interface Result {
  passed: number;
  failed: number;
  skipped: number;
  /** What the kernel's own line says. */
  text: string;
}

const REPO = join(import.meta.dirname, '../..');
/** What of the daemon depends on the kernel: hooks, interfaces, pins, locks, privileges. */
const DAEMON = [
  'endpoints',
  'hooks',
  'link-types',
  'locks',
  'notify',
  'refusals',
  'reload',
  'state',
];
/** What runs in one machine together. */
const MACHINES = [['kernel'], ['datapath'], DAEMON.map(daemonTest), ['e2e']];
/** How many times slower an emulated processor is, near enough: time limits are multiplied. */
const SLOWNESS = 10;
/** Of one machine. */
const LIMIT_MS = 6 * 60 * 60_000;
const TOTALS = /^(\d+) passed, (\d+) failed, (\d+) skipped$/;

/** A result for each machine, or why there is no such kernel here. */
async function tryKernel(
  name: string,
  machines: readonly (readonly string[])[],
): Promise<Result[] | string> {
  try {
    prepareHost();
    const image = prepareImage(join(REPO, 'build/kernels'), KERNELS[name] ?? /$^/);
    const results: Result[] = [];
    for (const tests of machines) results.push(await runTests(image, tests));
    return results;
  } catch (error) {
    if (error instanceof Unavailable) return error.message;
    throw error;
  }
}

async function runTests(image: Image, tests: readonly string[]): Promise<Result> {
  console.log(`\n==== Linux ${image.version}`);
  const start = performance.now();
  let totals = ['0', '0', '0'];
  const { code, console: said } = await boot(image, {
    repo: REPO,
    command: process.env.COMMAND ?? testCommand(tests),
    limit: LIMIT_MS,
    print(line) {
      totals = TOTALS.exec(line)?.slice(1) ?? totals;
      console.log(line);
    },
  });
  const minutes = ((performance.now() - start) / 60_000).toFixed(1);
  const [passed = 0, failed = 0, skipped = 0] = totals.map(Number);
  const what = [image.version, ...new Set(tests.map((test) => test.split('/').at(-2) ?? test))];
  const counts = `${passed} passed, ${failed} failed, ${skipped} skipped in ${minutes} min`;
  const text = `${what.join(' ')}: ${counts}`;
  if (code === 0) return { passed, failed, skipped, text };
  const ending = code === undefined ? `the guest ended early\n${said}` : `exit ${code}`;
  return { passed, failed: Math.max(failed, 1), skipped, text: `${text}; ${ending}` };
}

function daemonTest(name: string): string {
  return `test/daemon/${name}.test.ts`;
}

function testCommand(tests: readonly string[]): string {
  return `SEKISHO_TEST_SLOW=${SLOWNESS} ${process.execPath} scripts/test.ts ${tests.join(' ')}`;
}

const asked = process.argv.slice(2);
const kernels = asked.filter((name) => name in KERNELS);
const tests = asked.filter((name) => !(name in KERNELS));
const machines = tests.length > 0 || process.env.COMMAND ? [tests] : MACHINES;
const results: Result[] = [];
const lines: string[] = [];
let kernelsHere = 0;
for (const name of kernels.length > 0 ? kernels : Object.keys(KERNELS)) {
  const outcome = await tryKernel(name, machines);
  if (typeof outcome === 'string') {
    lines.push(`${name}: skipped: ${outcome}`);
    continue;
  }
  kernelsHere++;
  results.push(...outcome);
  lines.push(...outcome.map(({ text }) => text));
}
console.log(`\n${lines.join('\n')}`);
const sum = (key: 'passed' | 'failed' | 'skipped') =>
  results.reduce((total, result) => total + result[key], 0);
console.log(
  `${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped ` +
    `on ${kernelsHere} of ${kernels.length || Object.keys(KERNELS).length} kernels`,
);
process.exitCode = sum('failed') > 0 ? 1 : 0;
